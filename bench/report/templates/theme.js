// Light or dark, as the system has it or as the reader chose; runs before anything is painted.
(() => {
  "use strict";
  const root = document.documentElement;
  root.classList.add("scripted");
  const names = { "": "as the system", light: "light", dark: "dark" };
  const recall = () => {
    try { return localStorage.getItem("bench-theme") || ""; } catch { return ""; }
  };
  const apply = (theme) => {
    if (theme in names && theme) root.dataset.theme = theme; else delete root.dataset.theme;
  };
  apply(recall());
  const changed = () => document.dispatchEvent(new Event("themechange"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed);
  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    const label = button.querySelector("span");
    const say = () => { label.textContent = names[root.dataset.theme || ""]; };
    button.hidden = false;
    say();
    button.addEventListener("click", () => {
      const order = Object.keys(names);
      const next = order[(order.indexOf(root.dataset.theme || "") + 1) % order.length];
      apply(next);
      try { localStorage.setItem("bench-theme", next); } catch { /* a file may have no storage; the page keeps it */ }
      say();
      changed();
    });
  });
})();
