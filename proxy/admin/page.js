"use strict";
const by = (id) => document.getElementById(id);

async function show() {
  const [ready, rules] = await Promise.all(["/readyz", "/api/rules"].map((path) => fetch(path).then((r) => r.json())));
  const state = by("state");
  state.textContent = [ready.ready ? "Ready." : "Not ready: " + ready.reasons.join("; "), ...ready.notes].join(" ");
  state.className = ready.ready && !ready.notes.length ? "" : "bad";
  by("source").textContent = `${rules.source}, version ${rules.digest}; ${rules.unmatched} requests matched no rule`;
  by("rules").replaceChildren(...rules.rules.map((rule) => {
    const row = document.createElement("tr");
    for (const [value, kind] of [[rule.name], [rule.policy], [rule.mode], [rule.hits, "number"], [rule.because ?? ""]]) {
      const cell = document.createElement("td");
      cell.textContent = value;
      if (kind) cell.className = kind;
      row.append(cell);
    }
    return row;
  }));
}

by("explain").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = new FormData(event.target);
  const query = new URLSearchParams({ format: "text" });
  for (const [name, value] of form) {
    const lines = name.includes("header") ? value.split("\n").filter((line) => line.trim()) : [value];
    lines.forEach((line) => query.append(name, line));
  }
  const answer = await fetch("/api/explain?" + query);
  by("answer").textContent = await answer.text();
});

const again = () => show().catch((error) => { by("state").textContent = "No answer: " + error; }).finally(() => setTimeout(again, 5000));
again();
