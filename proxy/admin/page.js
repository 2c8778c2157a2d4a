"use strict";
const AGAIN_MS = 5000;
const by = (id) => document.getElementById(id);
const number = (value) => value.toLocaleString("en");

async function show() {
  const [ready, rules] = await Promise.all(["/readyz", "/api/rules"].map((path) => fetch(path).then((r) => r.json())));
  const said = ready.ready ? ["Ready: takes traffic."] : ["Not ready:", ...ready.reasons];
  tell([...said, ...ready.notes].join("\n"), ready.ready && !ready.notes.length);
  const unmatched = rules.unmatched === 1 ? "1 request" : `${number(rules.unmatched)} requests`;
  by("source").textContent = `${rules.source}, version ${rules.digest}. ${unmatched} matched no rule.`;
  by("rules").replaceChildren(...rules.rules.map((rule) => {
    const row = document.createElement("tr");
    for (const text of [rule.name, rule.policy, rule.mode, number(rule.hits), rule.because ?? ""]) {
      row.append(Object.assign(document.createElement("td"), { textContent: text }));
    }
    row.cells[3].className = "number";
    return row;
  }));
}

function tell(text, isGood) {
  by("state").textContent = text;
  by("state").className = isGood ? "good" : "bad";
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

by("explain").addEventListener("submit", async (event) => {
  event.preventDefault();
  const answer = by("answer");
  answer.hidden = false;
  answer.textContent = "Asking\u2026";
  answer.textContent = await explain(event.target).catch((error) => `No answer: ${error.message}`);
});

async function again() {
  // A page that nobody looks at asks for nothing.
  if (!document.hidden) await show().catch((error) => tell(`No answer: ${error.message}`, false));
  setTimeout(again, AGAIN_MS);
}
again();
