"use strict";
// The report is complete without this: it adds the filter and the copy buttons.
const all = (selector) => [...document.querySelectorAll(selector)];
const cells = all("details.cell");
const filter = document.getElementById("filter");

function matches(element) {
  const { verdict, target } = filter.elements;
  const { dataset } = element;
  const asked = verdict.value === "!" ? dataset.state === "unexpected" : !verdict.value || dataset.verdict === verdict.value;
  return asked && (!target.value || dataset.target === target.value);
}

function apply() {
  for (const cell of cells) cell.hidden = !matches(cell);
  for (const tile of all(".tile")) tile.classList.toggle("dim", !matches(tile));
  const shown = cells.filter((cell) => !cell.hidden).length;
  document.getElementById("shown").textContent = shown === cells.length ? "" : `${shown} of ${cells.length}`;
  document.getElementById("nothing").hidden = shown > 0;
}

function reveal() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  const cell = target.closest("details.cell");
  if (cell && cell.hidden) {
    filter.reset();
    apply();
  }
  for (let part = target.closest("details"); part; part = part.parentElement.closest("details")) part.open = true;
  target.scrollIntoView();
}

async function copy(button, text) {
  try {
    await navigator.clipboard.writeText(text.textContent);
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(text);
    button.textContent = "Press Ctrl-C";
  }
  setTimeout(() => { button.textContent = "Copy"; }, 2000);
}

for (const box of all(".copy")) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Copy";
  button.addEventListener("click", () => copy(button, box.querySelector("pre")));
  box.append(button);
}

document.getElementById("toggle").addEventListener("click", (event) => {
  const open = cells.some((cell) => !cell.hidden && !cell.open);
  for (const cell of cells) if (!cell.hidden) cell.open = open;
  event.target.textContent = open ? "Close all" : "Open all";
});
filter.hidden = cells.length < 2;
filter.addEventListener("change", apply);
filter.addEventListener("submit", (event) => event.preventDefault());
addEventListener("hashchange", reveal);
addEventListener("beforeprint", () => { for (const part of all("details.cell, .booted")) part.open = true; });
apply();
if (location.hash) reveal();
