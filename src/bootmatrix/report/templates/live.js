"use strict";
// Follows a run by polling once a second. All values are set as text, never as markup.
(() => {
  const at = (id) => document.getElementById(id);
  const element = (tag, text, name) => {
    const node = document.createElement(tag);
    node.textContent = text;
    if (name) node.className = name;
    return node;
  };
  const QUIET_S = 10; // silence of a guest that is worth showing
  const order = { bad: 0, fault: 1, foreseen: 2, good: 3, skip: 4 };

  function row(cell) {
    const line = element("tr", "", `s-${cell.standing}`);
    const head = element("th", cell.id);
    head.scope = "row";
    const verdict = document.createElement("td");
    verdict.append(element("b", cell.verdict, `v-${cell.verdict}`));
    const passed = cell.verdict === "pass" && cell.standing === "good";
    line.append(head, verdict, element("td", cell.seconds ? `${cell.seconds} s` : ""), element("td", passed ? "" : cell.reason));
    return line;
  }

  function underWay(cell) {
    const line = element("li", cell.id);
    if (!cell.last) return line;
    const quiet = cell.quiet_s < QUIET_S ? "" : `, ${cell.quiet_s} s ago`;
    line.append(element("code", cell.last), element("span", quiet));
    return line;
  }

  function show(state) {
    at("title").textContent = state.title;
    const wrong = state.cells.filter((cell) => cell.standing === "bad" || cell.standing === "fault").length;
    const end = state.ended ? (state.interrupted ? "interrupted" : "finished") : `${state.under_way.length} running`;
    const total = Math.max(state.planned, state.cells.length);
    const share = state.planned ? `${state.cells.length} of ${total} cells` : `${state.cells.length} cells`;
    at("headline").textContent = state.fault || `${share} done, ${wrong} not as expected; ${end}`;
    document.title = state.ended ? `${state.title} · bootmatrix` : `${state.cells.length}/${total || "?"} · ${state.title} · bootmatrix`;
    at("progress").hidden = !state.planned;
    at("progress").max = total;
    at("progress").value = state.cells.length;
    at("headline").className = `headline ${wrong ? "bad" : "good"}`;
    at("under").replaceChildren(...state.under_way.map(underWay));
    const cells = [...state.cells].sort((first, second) => order[first.standing] - order[second.standing]);
    at("done").replaceChildren(...cells.map(row));
    if (state.ended && state.report && !at("report")) {
      const link = element("a", "Report");
      link.id = "report";
      link.href = "report.html";
      at("headline").after(link);
    }
  }

  async function follow() {
    let ended = false;
    try {
      const response = await fetch("live.json");
      const state = await response.json();
      show(state);
      ended = state.ended && state.report;
    } catch {
      at("headline").textContent = "The server is not responding; retrying.";
    }
    if (!ended) setTimeout(follow, 1000);
  }
  follow();
})();
