"use strict";
// The section Recent requests: the last exchanges, newest first. To ask for them is what records them, so a page that is
// paused or that nobody looks at lets the recording end.
const RECENT_AGAIN_MS = 2000;
const MOST_ROWS = 200;
const COLUMNS = 7;
const CLIENT_LEFT = 499;
const recent = { exchanges: [], last: 0, since: "", isPaused: false };

async function loadRecent() {
  const answer = await fetch(`/api/recent?after=${recent.last}`);
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.error);
  if (recent.isPaused) return; // while it was asked; these come again
  if (recent.since !== body.watching_since) {
    recent.since = body.watching_since;
    tellRecent(`Recorded since ${clockTime(recent.since)}, and only while a page asks for it.`);
  }
  body.requests.forEach(addExchange);
  showRecent();
}

const tellRecent = (text) => { at("recent-state").textContent = text; };

const clockTime = (text) => new Date(text).toLocaleTimeString([], { hour12: false });

function addExchange(exchange) {
  if (exchange.id <= recent.last) return; // two answers crossed
  recent.last = exchange.id;
  const row = exchangeRow(exchange);
  recent.exchanges.push({ row, words: words(exchange) });
  at("recent").prepend(row);
  while (recent.exchanges.length > MOST_ROWS) removeRow(recent.exchanges.shift().row);
}

const words = (exchange) =>
  [exchange.method, exchange.target, exchange.status, exchange.rule, exchange.policy, exchange.observed, exchange.error]
    .filter((word) => word !== null).join(" ").toLowerCase();

function showRecent() {
  const wanted = at("recent-filter").value.trim().toLowerCase();
  let shown = 0;
  recent.exchanges.forEach(({ row, words: text }) => {
    row.hidden = !text.includes(wanted);
    shown += !row.hidden;
    const detail = detailOf(row);
    if (detail) detail.hidden = row.hidden;
  });
  at("recent-none").hidden = shown > 0;
  at("recent-none").textContent = recent.exchanges.length ? "No request contains this text." : "None yet.";
}

function exchangeRow(exchange) {
  const opener = button(exchange.target || "(not readable)", () => toggleDetail(row, exchange));
  opener.setAttribute("aria-expanded", "false");
  const cells = [
    element("time", { dateTime: exchange.ts, textContent: clockTime(exchange.ts) }),
    exchange.method || "?", opener, exchange.status === null ? "none" : String(exchange.status),
    exchange.rule ?? absent(), exchange.policy ?? absent(), duration(exchange.duration_s),
  ];
  const row = element("tr", {}, ...cells.map((cell) => element("td", {}, cell)));
  row.cells[3].className = exchange.status === null || exchange.status >= 500 ? "number failed" : "number";
  row.cells[6].className = "number";
  row.addEventListener("click", (event) => {
    if (!event.target.closest("button") && getSelection().isCollapsed) toggleDetail(row, exchange);
  });
  return row;
}

const absent = () => element("span", { className: "absent", textContent: "none" });

const duration = (seconds) => (seconds < 9.995 ? `${(seconds * 1000).toFixed(1)} ms` : `${seconds.toFixed(1)} s`);

const detailOf = (row) => (row.nextElementSibling?.className === "detail" ? row.nextElementSibling : null);

function toggleDetail(row, exchange) {
  const detail = detailOf(row);
  if (detail) detail.remove();
  else row.after(element("tr", { className: "detail" }, element("td", { colSpan: COLUMNS }, ...exchangeDetail(exchange))));
  row.querySelector("button").setAttribute("aria-expanded", String(!detail));
}

function removeRow(row) {
  detailOf(row)?.remove();
  row.remove();
}

function exchangeDetail(exchange) {
  const { request, response } = exchange;
  return [
    element("p", { textContent: outcome(exchange) }),
    element("div", { className: "heads" },
      headList("Request", "the client sent", "the app got", request.received, request.forwarded),
      headList("Response", "the app sent", "the client got", response.received, response.sent)),
    ...(JSON.stringify([request, response]).includes("(hidden)")
      ? [element("p", { className: "faint", textContent: "(hidden) stands for a value that may be a credential. Explain does not get it either." })] : []),
    button("Open in Explain", () => openExplain({
      method: exchange.method,
      target: exchange.target,
      fields: fieldLines(request.received ?? request.forwarded),
      status: exchange.upstream_status >= 200 ? String(exchange.upstream_status) : "200",
      responseFields: fieldLines(response.received),
    })),
  ];
}

function outcome({ rule, policy, changed, observed, status, error, detail, upstream_status: theirs }) {
  const who = rule === null ? "No rule matched" : `The rule ${rule} decided`;
  const what = policy === null ? "the response passed as it was" : `policy ${policy}, ${changed} ${changed === 1 ? "line" : "lines"} of the response changed`;
  const tried = observed === null ? "" : ` The rule ${observed} is only observed; it would have decided.`;
  if (error === null) return `${who}: ${what}.${tried}`;
  const why = detail === null ? error : `${error} (${detail})`;
  if (status === null || status === CLIENT_LEFT) return `${who}. There was no answer: ${why}.${tried}`;
  if (status !== theirs) return `The proxy answered in place of the app: ${why}.${tried}`;
  return `${who}: ${what}. The response broke off: ${why}.${tried}`;
}

const fieldLines = (head) => (head ?? []).slice(1).filter((line) => line !== "...");

// One list of what was before and after: a line that is only before is marked with a minus, one that is only after with a plus.
function headList(title, whoBefore, whoAfter, before, after) {
  const box = element("section", {}, element("h3", { textContent: title }));
  if (!before && !after) box.append(element("p", { className: "faint", textContent: "There was none, or it could not be read." }));
  else if (!before || !after) box.append(legend(before ? `As ${whoBefore} it.` : `As ${whoAfter} it.`));
  else if (isSame(before, after)) box.append(legend(`As ${whoBefore} it, and ${whoAfter} it.`));
  else box.append(legend(`\u2212 as ${whoBefore} it, + as ${whoAfter} it.`));
  const lines = before && after ? changes(before, after) : (before ?? after ?? []).map((text) => ["", text]);
  box.append(element("ul", { className: "head" }, ...lines.map(([mark, text]) =>
    element("li", { className: mark ? (mark === "+" ? "new" : "gone") : "", textContent: mark ? `${mark} ${text}` : text }))));
  return box;
}

const legend = (textContent) => element("p", { className: "faint", textContent });

const isSame = (before, after) => before.length === after.length && before.every((line, place) => line === after[place]);

function changes(before, after) {
  const added = [...after];
  const kept = before.map((line) => {
    const place = added.indexOf(line);
    if (place >= 0) added.splice(place, 1);
    return place >= 0;
  });
  const lines = [];
  before.forEach((line, place) => {
    lines.push([kept[place] ? "" : "\u2212", line]);
    if (kept[place]) return;
    const name = fieldName(line);
    for (let next; (next = added.findIndex((other) => fieldName(other) === name)) >= 0;) {
      lines.push(["+", added.splice(next, 1)[0]]);
    }
  });
  return [...lines, ...added.map((line) => ["+", line])];
}

const fieldName = (line) => line.split(":", 1)[0].toLowerCase();

function pauseRecent() {
  recent.isPaused = !recent.isPaused;
  at("recent-pause").setAttribute("aria-pressed", String(recent.isPaused));
  recent.since = "";
  if (recent.isPaused) tellRecent("Paused. After 30 seconds the proxy stops recording, unless another page still asks.");
  else askRecent();
}

function clearRecent() {
  recent.exchanges = [];
  at("recent").replaceChildren();
  showRecent();
}

async function askRecent() {
  await loadRecent().catch((error) => {
    recent.since = "";
    tellRecent(`No answer: ${error.message}`);
  });
}

async function askRecentAgain() {
  if (!document.hidden && !recent.isPaused) await askRecent();
  setTimeout(askRecentAgain, RECENT_AGAIN_MS);
}

at("recent-filter").addEventListener("input", showRecent);
at("recent-pause").addEventListener("click", pauseRecent);
at("recent-clear").addEventListener("click", clearRecent);
askRecentAgain();
