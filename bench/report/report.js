"use strict";
// Click (or Enter) on a heading sorts its column: numbers by their first number, text by letters.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = Array.from(table.tHead.rows[0].cells);
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => sort(table, heads, column));
  });
}

// The contents close when one of them was chosen, and on Escape.
for (const contents of document.querySelectorAll(".bar details")) {
  contents.addEventListener("click", (event) => {
    if (event.target.closest("a")) contents.open = false;
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !contents.open) return;
    contents.open = false;
    contents.querySelector("summary").focus();
  });
}

function value(row, column) {
  const text = row.cells[column] ? row.cells[column].textContent.trim() : "";
  const number = /^[+-]?\d/.test(text) ? parseFloat(text) : NaN;
  return { text, number, absent: text === "-" || text === "" };
}

function sort(table, heads, column) {
  const head = heads[column];
  const down = head.getAttribute("aria-sort") === "ascending";
  heads.forEach((other) => other.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  const rows = Array.from(table.tBodies[0].rows);
  rows.sort((first, second) => {
    const a = value(first, column);
    const b = value(second, column);
    if (a.absent || b.absent) return a.absent - b.absent; // absent values last, either way
    const numeric = !isNaN(a.number) && !isNaN(b.number);
    const order = numeric ? a.number - b.number : a.text.localeCompare(b.text);
    return down ? -order : order;
  });
  table.tBodies[0].append(...rows);
}
