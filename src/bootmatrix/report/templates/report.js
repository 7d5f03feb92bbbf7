// Optional: adds the filter, sorting, folding and keyboard shortcuts.
const byId = (name) => document.getElementById(name);
const filter = byId("filter");
const tiles = all(".tile");
const list = byId("cell-list");
const details = list ? all("details.cell", list) : [];
const gridRows = all(".grid tr[data-spec]");
const cards = all(".card");
const WORST = ["panic", "hang", "timeout", "fail", "flaky", "user-fail", "pass", "user-pass", "user-unsupported", "build-error", "infra-error", "skip"];

// ---- the filter -----------------------------------------------------------------------------------------------------

const words = new Map();
const reported = new Map(tiles.map((tile) => [tile.dataset.cell, tile]));
const detailOf = new Map(details.map((cell) => [cell.dataset.cell, cell]));
let visible = new Set(reported.keys());

function textOf(tile) {
  const { cell } = tile.dataset;
  if (!words.has(cell)) words.set(cell, `${cell} ${tile.textContent} ${tile.title}`.toLowerCase());
  return words.get(cell);
}

function matches(tile, asked, kind) {
  const { verdict, marks } = tile.dataset;
  return (!kind || verdict === kind || marks.split(" ").includes(kind)) && asked.every((word) => textOf(tile).includes(word));
}

function apply() {
  const { q, verdict, sort } = filter.elements;
  const asked = q.value.toLowerCase().split(/\s+/).filter(Boolean);
  const now = new Set();
  for (const [cell, tile] of reported) if (matches(tile, asked, verdict.value)) now.add(cell);
  for (const [cell, tile] of reported) {
    if (now.has(cell) === visible.has(cell)) continue;
    tile.classList.toggle("dim", !now.has(cell));
    const detail = detailOf.get(cell);
    if (detail) detail.hidden = !now.has(cell);
  }
  visible = now;
  for (const row of gridRows) row.hidden = !all(".tile", row).some((tile) => now.has(tile.dataset.cell)) && now.size < reported.size;
  for (const group of all(".grid tbody")) group.hidden = !all("tr[data-spec]", group).some((row) => !row.hidden);
  for (const card of cards) card.hidden = !card.dataset.cells.split(" ").some((cell) => now.has(cell));
  if (sort) order(sort.value);
  byId("count").textContent = now.size === reported.size ? "" : `${now.size} of ${reported.size}`;
  byId("nothing").hidden = now.size > 0;
}

function order(kind) {
  if (list.dataset.order === kind) return;
  list.dataset.order = kind;
  const rank = (cell) => WORST.indexOf(reported.get(cell.dataset.cell).dataset.verdict) - (cell.classList.contains("unexpected") ? 99 : 0);
  const orders = {
    worst: (one, other) => rank(one) - rank(other),
    slowest: (one, other) => other.dataset.seconds - one.dataset.seconds,
    kernel: (one, other) => one.dataset.kernel.localeCompare(other.dataset.kernel, "en", { numeric: true }),
  };
  list.append(...(orders[kind] ? [...details].sort(orders[kind]) : details));
}

function toHash() {
  const asked = new URLSearchParams();
  for (const { name, value } of filter.elements) if (name && value) asked.set(name, value);
  const hash = String(asked);
  // Replaced, not pushed: typing a letter is not a navigation step.
  history.replaceState(null, "", hash ? `#${hash}` : location.pathname + location.search);
}

function fromHash(hash) {
  const asked = new URLSearchParams(hash);
  for (const field of filter.elements) if (field.name) field.value = asked.get(field.name) ?? "";
  apply();
}

function clear() {
  filter.reset();
  apply();
  toHash();
}

// ---- links to a cell or a line --------------------------------------------------------------------------------------

function reveal() {
  const hash = location.hash.slice(1);
  if (hash.includes("=")) return fromHash(hash);
  let name = hash;
  try { name = decodeURIComponent(hash); } catch { /* not one of our links */ }
  const target = name && document.getElementById(name);
  if (!target) return undefined;
  const cell = target.closest("details.cell");
  if (cell && cell.hidden || target.closest(".dim, tr[hidden]")) {
    filter.reset();
    apply();
  }
  const group = target.closest("tbody.folded");
  if (group) fold(group, false);
  for (let part = target.closest("details"); part; part = part.parentElement.closest("details")) part.open = true;
  target.scrollIntoView();
  return undefined;
}

// ---- the grid: folding, grouping, arrows ----------------------------------------------------------------------------

function fold(group, folded) {
  group.classList.toggle("folded", folded);
  group.querySelector(".twist")?.setAttribute("aria-expanded", !folded);
}

function addTwist(group) {
  const place = group.querySelector(".group span");
  const button = element("button", { type: "button", className: "twist", textContent: place.textContent });
  button.setAttribute("aria-expanded", "true");
  button.addEventListener("click", () => fold(group, !group.classList.contains("folded")));
  place.replaceWith(button);
}

// A folded column keeps its symbols, and its words for screen readers.
function addNarrowing(head) {
  const kernels = head.dataset.kernel ? [head] : [];
  let start = 1;
  if (!kernels.length) for (let before = head.previousElementSibling; before; before = before.previousElementSibling) if (before.scope === "colgroup") start += before.colSpan;
  const from = kernels.length ? columnOf(head) : start;
  const button = element("button", { type: "button", className: "twist" }, ...head.childNodes);
  button.setAttribute("aria-expanded", "true");
  button.title = "Fold or unfold this column";
  button.addEventListener("click", () => {
    const open = button.getAttribute("aria-expanded") === "true";
    button.setAttribute("aria-expanded", String(!open));
    for (const row of all(".grid tbody tr")) for (let at = from; at < from + head.colSpan; at += 1) row.cells[at]?.classList.toggle("narrow", open);
  });
  head.append(button);
}

const columnOf = (head) => all("thead th[data-kernel]", head.closest("table")).indexOf(head) + 1;

function regroup(by) {
  const table = document.querySelector(".grid");
  const groups = new Map();
  for (const group of all(".grid tbody.made")) group.remove();
  for (const group of all(".grid tbody")) group.hidden = by !== "spec";
  for (const row of gridRows) {
    const { spec, target } = row.dataset;
    row.cells[0].textContent = by === "spec" ? target : spec;
    if (by === "spec") {
      document.querySelector(`.grid tbody[data-group="${CSS.escape(spec)}"]`).append(row);
      continue;
    }
    if (!groups.has(target)) {
      const head = element("th", { scope: "rowgroup", colSpan: row.cells.length }, element("span", { textContent: target }));
      const group = element("tbody", { className: "made" }, element("tr", { className: "group" }, head));
      groups.set(target, group);
      table.append(group);
      addTwist(group);
    }
    groups.get(target).append(row);
  }
  apply();
}

function move(tile, key) {
  const cell = tile.closest("td");
  const rows = all(".grid tr[data-spec]").filter((row) => row.offsetParent !== null);
  let row = rows.indexOf(cell.parentElement);
  let column = cell.cellIndex;
  const [down, right] = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[key];
  for (row += down, column += right; rows[row]?.cells[column]; row += down, column += right) {
    const found = rows[row].cells[column].querySelector(".tile");
    if (found) return found.focus();
  }
  return undefined;
}

// ---- keys -----------------------------------------------------------------------------------------------------------

function step(by) {
  const wrong = tiles.filter((tile) => tile.classList.contains("unexpected") && !tile.classList.contains("dim"));
  if (!wrong.length) return;
  const here = location.hash.slice(1);
  const at = wrong.findIndex((tile) => tile === document.activeElement || tile.dataset.cell === here);
  const next = wrong[(at < 0 ? (by > 0 ? 0 : wrong.length - 1) : at + by + wrong.length) % wrong.length];
  const group = next.closest("tbody.folded");
  if (group) fold(group, false);
  if (detailOf.has(next.dataset.cell)) location.hash = next.dataset.cell;
  else next.focus();
}

const keys = {
  "/": () => { filter.elements.q.focus(); filter.elements.q.select(); },
  "?": () => byId("keys").showModal(),
  n: () => step(1),
  p: () => step(-1),
  g: () => {
    const here = reported.get(location.hash.slice(1)) ?? tiles.find((tile) => !tile.classList.contains("dim"));
    here?.focus();
  },
};

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || byId("keys").open) return;
  const { target, key } = event;
  if (key === "Escape" && (visible.size < reported.size || target.form === filter)) {
    clear();
    target.blur();
  } else if (/^Arrow/.test(key) && target.matches(".tile")) {
    event.preventDefault();
    move(target, key);
  } else if (keys[key] && byId("letters").checked && !target.matches("input, select, textarea")) {
    event.preventDefault();
    keys[key]();
  }
});

// ---- buttons --------------------------------------------------------------------------------------------------------

byId("theme").addEventListener("click", () => {
  const { dataset } = document.documentElement;
  const dark = dataset.theme ? dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  dataset.theme = dark ? "light" : "dark";
});
byId("help").addEventListener("click", keys["?"]);
byId("toggle")?.addEventListener("click", (event) => {
  const open = details.some((cell) => !cell.hidden && !cell.open);
  for (const cell of details) if (!cell.hidden) cell.open = open;
  event.target.textContent = open ? "Close all" : "Open all";
});
if (reported.size) {
  byId("fold").addEventListener("click", (event) => {
    const groups = all(".grid tbody").filter((group) => !group.hidden);
    const folded = groups.some((group) => !group.classList.contains("folded"));
    for (const group of groups) fold(group, folded);
    event.target.textContent = folded ? "Unfold all" : "Fold all";
  });
  byId("group").addEventListener("change", (event) => regroup(event.target.value));
  byId("clear").addEventListener("click", clear);
  all(".grid tbody").forEach(addTwist);
  all(".grid thead th:not(.corner):not(.alone[data-kernel])").forEach(addNarrowing);
  filter.hidden = byId("grid-tools").hidden = false;
  if (list) byId("cell-tools").hidden = false;
}
const answered = () => { apply(); toHash(); };
filter.elements.q.addEventListener("input", answered);
filter.addEventListener("change", (event) => { if (event.target !== filter.elements.q) answered(); });
filter.addEventListener("submit", (event) => event.preventDefault());
addEventListener("hashchange", reveal);
addEventListener("beforeprint", () => { for (const part of all("details.cell, .booted")) part.open = true; });
if (location.hash) reveal();
