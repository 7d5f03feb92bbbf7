"use strict";
// Optional: adds console search and copy buttons.
const all = (selector, root = document) => [...root.querySelectorAll(selector)];

function element(name, properties, ...children) {
  const node = Object.assign(document.createElement(name), properties);
  node.append(...children);
  return node;
}

async function copy(button, text) {
  const before = button.textContent;
  try {
    await navigator.clipboard.writeText(text.textContent);
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(text);
    button.textContent = "Press Ctrl-C";
  }
  setTimeout(() => { button.textContent = before; }, 2000);
}

for (const box of all(".copy")) {
  const button = element("button", { type: "button", textContent: "Copy" });
  button.addEventListener("click", () => copy(button, box.querySelector("pre")));
  box.append(button);
}

function addSearch(view) {
  const input = element("input", { type: "search", placeholder: "Search the console", spellcheck: false });
  input.setAttribute("aria-label", "Search the console");
  const count = element("output", { className: "aside" });
  const next = element("button", { type: "button", textContent: "Next" });
  const previous = element("button", { type: "button", textContent: "Previous" });
  const wrap = element("button", { type: "button", textContent: "Wrap lines" });
  let hits = [];
  let now = -1;

  function go(step) {
    if (!hits.length) return;
    if (hits[now]) hits[now].classList.remove("now");
    now = (now + step + hits.length) % hits.length;
    hits[now].classList.add("now");
    hits[now].scrollIntoView({ block: "center" });
    count.textContent = `${now + 1} of ${hits.length}`;
  }

  function search() {
    for (const line of hits) line.classList.remove("hit", "now");
    const words = input.value.toLowerCase();
    hits = words ? all(".lines > div", view).filter((line) => line.lastChild.textContent.toLowerCase().includes(words)) : [];
    for (const line of hits) line.classList.add("hit");
    count.textContent = words ? "no match" : "";
    now = -1;
    go(1);
  }

  input.addEventListener("input", search);
  input.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    go(event.shiftKey ? -1 : 1);
  });
  next.addEventListener("click", () => go(1));
  previous.addEventListener("click", () => go(-1));
  wrap.addEventListener("click", () => wrap.setAttribute("aria-pressed", view.classList.toggle("wrapped")));
  view.before(element("div", { className: "seek" }, input, previous, next, wrap, count));
}

for (const view of all(".console")) if (view.querySelectorAll(".lines > div").length > 40) addSearch(view);
