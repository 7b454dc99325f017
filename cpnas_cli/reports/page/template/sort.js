// Sorts a table by the column whose heading is pressed; what is absent comes last in either order.
"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  const valueOf = (cell, isNumber) => {
    const key = cell.dataset.key;
    if (!isNumber) return key === undefined ? cell.textContent : key;
    return key === undefined || key === "" ? null : Number(key);
  };
  headings.forEach((heading, column) => {
    const isNumber = heading.classList.contains("number");
    heading.querySelector("button").addEventListener("click", () => {
      const falling = heading.getAttribute("aria-sort") === "ascending";
      headings.forEach((each) => each.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", falling ? "descending" : "ascending");
      const rows = [...body.rows].map((row) => ({ row, value: valueOf(row.cells[column], isNumber) }));
      rows.sort((one, other) => {
        if (one.value === null || other.value === null) return (one.value === null) - (other.value === null);
        const order = isNumber
          ? one.value - other.value
          : one.value.localeCompare(other.value, "en", { numeric: true });
        return falling ? -order : order;
      });
      body.append(...rows.map((each) => each.row));
    });
  });
}
