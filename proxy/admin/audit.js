"use strict";
// The section Audit: which responses caches may reuse, and the rule for each. The report takes seconds to make, so the page
// asks for it once, and again only on demand.
const VERDICTS = {
  leak: ["leak", "A shared cache could show one user's content to another."],
  stale: ["stale", "The content changed while some cache could still answer with the old one."],
  possible: ["possible", "Caches may reuse it; no change was seen."],
  protected: ["protected", "A rule forbids reuse."],
  fine: ["fine", "Nothing may be reused, or it is a file that does not change."],
};
const audit = { report: null, chosen: "" };

async function loadAudit() {
  const state = at("audit-state");
  state.textContent = "Making the report\u2026";
  at("audit-again").disabled = true;
  try {
    const answer = await fetch("/api/audit");
    const body = await answer.json();
    if (!answer.ok) throw new Error(body.error);
    audit.report = body;
    state.textContent = summary(body);
    showAudit();
  } catch (error) {
    state.textContent = `No report: ${error.message}`;
  } finally {
    at("audit-again").disabled = false;
  }
}

function summary(report) {
  if (!report.routes.length) return "The audit has seen no answer of the app yet.";
  const seen = `${answers(report.responses)} since ${new Date(report.since).toLocaleString()}.`;
  const dropped = report.routes_dropped ? [`${report.routes_dropped} answers of further routes were not examined: there is room for 500 routes.`] : [];
  return [seen, ...report.notes, ...dropped].join(" ");
}

function showAudit() {
  const { routes, rules } = audit.report;
  const counts = Object.fromEntries(Object.keys(VERDICTS).map((verdict) => [verdict, 0]));
  routes.forEach((route) => { counts[route.verdict] += 1; });
  if (!counts[audit.chosen]) audit.chosen = "";
  at("audit-filter").hidden = !routes.length;
  at("audit-filter").replaceChildren(
    filterButton("", `all ${routes.length}`, "Every route."),
    ...Object.entries(counts).filter(([, count]) => count).map(([verdict, count]) =>
      filterButton(verdict, `${verdict} ${count}`, VERDICTS[verdict][1])),
  );
  const shown = routes.filter((route) => !audit.chosen || route.verdict === audit.chosen);
  at("audit-routes").replaceChildren(...shown.map(routeCard));
  at("audit-all").hidden = !rules;
  at("audit-rules").textContent = rules;
}

function filterButton(verdict, text, title) {
  const made = button(text, () => {
    audit.chosen = verdict;
    showAudit();
    at("audit-filter").querySelector("[aria-pressed=true]").focus();
  });
  made.title = title;
  made.setAttribute("aria-pressed", String(audit.chosen === verdict));
  return made;
}

function routeCard(route) {
  const title = element("summary", {},
    element("span", { className: `verdict ${route.verdict}`, textContent: route.verdict }), " ",
    element("code", { textContent: `${route.method} ${route.route}` }), " ",
    element("span", { className: "number", textContent: answers(route.responses) }), " ",
    element("span", { className: "why", textContent: sentence(route.why) }));
  const card = element("details", {}, title, facts(route));
  if (route.rule) card.append(copyable(`The rule for ${route.route}`, route.rule));
  return element("li", {}, card);
}

const answers = (count) => (count === 1 ? "1 answer" : `${count.toLocaleString("en")} answers`);

const sentence = (text) => `${capitalised(text)}.`;

function facts(route) {
  const asked = Object.entries(route.asked_by).filter(([, count]) => count).map(([who, count]) => `${who} ${count}`);
  const rows = {
    "Asked by": asked.join(", "),
    "Reusable by": route.caches.map((cache) => (cache === "private" ? "browsers" : "shared caches")).join(", ") || "no cache",
    Lifetime: route.freshness === "none" ? "none" : route.lifetime_s === null ? "as caches choose" : `${route.lifetime_s} s`,
    Type: route.content_types.join(", ") || "unknown",
  };
  return element("dl", {}, ...Object.entries(rows).flatMap(([name, value]) =>
    [element("dt", { textContent: name }), element("dd", { textContent: value })]));
}

function copyable(label, text) {
  const code = element("pre", { textContent: text, tabIndex: 0 });
  code.setAttribute("aria-label", label);
  return element("div", { className: "copyable" }, code, copyButton(() => text));
}

function copyButton(text) {
  const made = button("Copy", () => copy(made, text()));
  return made;
}

async function copy(pressed, text) {
  try {
    await navigator.clipboard.writeText(text);
    pressed.textContent = "Copied";
  } catch {
    // Over plain HTTP to another host than localhost there is no clipboard: the text is marked to be copied by hand.
    getSelection().selectAllChildren(pressed.parentElement.querySelector("pre"));
    pressed.textContent = "Marked: press Ctrl+C";
  }
  setTimeout(() => { pressed.textContent = "Copy"; }, 3000);
}

async function resetAudit() {
  if (!confirm("Forget all that the audit has seen?")) return;
  const answer = await fetch("/api/audit/reset", { method: "POST" });
  if (!answer.ok) {
    at("audit-state").textContent = `Not reset: ${(await answer.json()).error}`;
    return;
  }
  await loadAudit();
}

at("audit-again").addEventListener("click", loadAudit);
at("audit-reset").addEventListener("click", resetAudit);
at("audit-copy").addEventListener("click", () => copy(at("audit-copy"), at("audit-rules").textContent));
loadAudit();
