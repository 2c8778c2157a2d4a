"use strict";
const AGAIN_MS = 5000;
const at = (id) => document.getElementById(id);
const number = (value) => value.toLocaleString("en");
const capitalised = (text) => text.charAt(0).toUpperCase() + text.slice(1);

// What comes from the proxy gets into the page by this alone: as text, never as markup.
function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function button(textContent, act) {
  const made = element("button", { type: "button", textContent });
  made.addEventListener("click", act);
  return made;
}

async function show() {
  const paths = ["/readyz", "/api/rules", "/api/config"];
  const [ready, rules, config] = await Promise.all(paths.map((path) => fetch(path).then((r) => r.json())));
  const said = ready.ready ? ["Ready: takes traffic."] : ["Not ready:", ...ready.reasons];
  // Rules that are refused need somebody, but the rules before them protect as they did.
  tell([...said, ...ready.notes].map(capitalised).join("\n"), ready.ready ? (ready.notes.length ? "warn" : "good") : "bad");
  const since = new Date(config.started_at_s * 1000).toLocaleString();
  const workers = `${config.workers_running} of ${config.settings.workers} ${config.settings.workers === 1 ? "worker" : "workers"}`;
  at("process").textContent = `Version ${config.version}, in front of ${config.settings.upstream}, since ${since}, ${workers}.`;
  const unmatched = rules.unmatched === 1 ? "1 request" : `${number(rules.unmatched)} requests`;
  at("source").textContent = `${rules.source}, digest ${rules.digest}. ${unmatched} matched no rule.`;
  at("rules").replaceChildren(...rules.rules.map((rule) => {
    const texts = [rule.name, rule.policy, rule.mode, number(rule.hits), rule.because ?? ""];
    const row = element("tr", {}, ...texts.map((textContent) => element("td", { textContent })));
    row.cells[3].className = "number";
    return row;
  }));
}

function tell(text, kind) {
  at("state").textContent = text;
  at("state").className = kind;
}

// For other sections: fill the form in, and answer.
function openExplain({ method, target, fields, status, responseFields }) {
  const form = at("explain");
  form.elements.method.value = method;
  form.elements.target.value = target;
  form.elements.header.value = fields.join("\n");
  form.elements.status.value = status;
  form.elements.response_header.value = responseFields.join("\n");
  form.requestSubmit();
  at("explain-title").scrollIntoView();
  at("explain-title").focus();
}

async function explain(form) {
  const query = new URLSearchParams({ format: "text" });
  for (const [name, value] of new FormData(form)) {
    const lines = name.includes("header") ? value.split("\n").filter((line) => line.trim()) : [value.trim()];
    lines.forEach((line) => query.append(name, line));
  }
  const answer = await fetch("/api/explain?" + query);
  if (answer.headers.get("Content-Type").startsWith("text/plain")) return answer.text();
  const { error, refused } = await answer.json();
  return error ?? `The proxy would answer this request itself, with ${refused.status}: ${refused.reason}`;
}

at("explain").addEventListener("submit", async (event) => {
  event.preventDefault();
  const answer = at("answer");
  answer.hidden = false;
  answer.textContent = "Asking\u2026";
  answer.textContent = await explain(event.target).catch((error) => `No answer: ${error.message}`);
});

async function again() {
  // A page that nobody looks at asks for nothing.
  if (!document.hidden) await show().catch((error) => tell(`No answer: ${error.message}`, "bad"));
  setTimeout(again, AGAIN_MS);
}
again();
