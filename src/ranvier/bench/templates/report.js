"use strict";
(() => {
  const root = document.documentElement;
  root.classList.remove("no-script");
  const remembered = { get: () => { try { return localStorage.getItem("ranvier-theme"); } catch { return null; } },
                       set: (value) => { try { localStorage.setItem("ranvier-theme", value); } catch { /* private window */ } } };
  const saved = remembered.get();
  if (saved === "light" || saved === "dark") root.dataset.theme = saved;

  const isDark = () => root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;

  function themeButton(button) {
    const tell = () => { button.textContent = isDark() ? "Light" : "Dark"; button.setAttribute("aria-label", `Switch to ${isDark() ? "light" : "dark"} colours`); };
    button.hidden = false;
    button.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; remembered.set(root.dataset.theme); tell(); });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", tell);
    tell();
  }

  function value(row, column) {
    const cell = row.cells[column];
    const key = cell.dataset.key ?? cell.textContent.trim();
    const number = Number(key);
    return key === "" ? null : Number.isNaN(number) ? key.toLowerCase() : number;
  }

  function sortBy(table, header) {
    const column = header.cellIndex;
    const current = header.getAttribute("aria-sort");
    const first = header.dataset.first === "descending" ? -1 : 1;
    const sign = current === "ascending" ? -1 : current === "descending" ? 1 : first;
    for (const other of header.parentElement.cells) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
    const body = table.tBodies[0];
    const compare = (a, b) => {
      const [x, y] = [value(a, column), value(b, column)];
      if (x === null || y === null) return (x === null) - (y === null);  // missing figures stay at the end
      if (typeof x === typeof y) return sign * (x < y ? -1 : x > y ? 1 : 0);
      return sign * (typeof x === "number" ? -1 : 1);
    };
    body.append(...[...body.rows].sort(compare));
  }

  function filter(section) {
    const text = section.querySelector("input[type=search]").value.trim().toLowerCase();
    const driven = section.querySelector("input[type=checkbox]").checked;
    let shown = 0;
    for (const row of section.querySelectorAll("tbody tr")) {
      row.hidden = !(row.dataset.search.includes(text) && (!driven || row.dataset.driven === "yes"));
      shown += row.hidden ? 0 : 1;
    }
    section.querySelector(".empty").hidden = shown > 0;
    section.querySelector("[role=status]").textContent = `${shown} shown`;
  }

  document.addEventListener("DOMContentLoaded", () => {
    document.querySelectorAll(".theme").forEach(themeButton);
    for (const table of document.querySelectorAll("table.sortable"))
      for (const header of table.tHead.rows[0].cells)
        header.querySelector("button")?.addEventListener("click", () => sortBy(table, header));
    for (const section of document.querySelectorAll(".board")) {
      section.querySelector(".tools")?.addEventListener("input", () => filter(section));
    }
  });
})();
