// Sorting by the buttons in the headers, and filtering by the forms above the tables. What a column holds is read from
// its cells, so a page without this script is the whole table.
(() => {
  "use strict";

  const LONG = 30; // rows from which on a table scrolls within the page
  const text = (cell) => (cell ? cell.textContent.trim() : "");
  const first = (cell) => (cell && cell.firstChild ? cell.firstChild.textContent.trim() : "");
  const body = (table) => table.tBodies[0];

  // What a cell is sorted by: its number, if its column holds numbers, else its text; what is missing comes last.
  function key(cell, numeric) {
    if (!numeric) return text(cell).toLowerCase();
    const number = parseFloat(first(cell).replace(/,/g, ""));
    return Number.isNaN(number) ? null : number;
  }

  function sort(table, column, descending) {
    const numeric = table.tHead.rows[0].cells[column].classList.contains("num");
    const rows = [...body(table).rows].map((row) => [key(row.cells[column], numeric), row]);
    const compare = numeric ? (a, b) => a - b : new Intl.Collator(undefined, { numeric: true }).compare;
    rows.sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null);
      return descending ? compare(b, a) : compare(a, b);
    });
    body(table).append(...rows.map(([, row]) => row));
    [...table.tHead.rows[0].cells].forEach((header, i) => {
      if (i === column) header.setAttribute("aria-sort", descending ? "descending" : "ascending");
      else header.removeAttribute("aria-sort");
    });
    table.dispatchEvent(new Event("rowschange"));
  }

  function makeSortable(table) {
    [...table.tHead.rows[0].cells].forEach((header, column) => {
      header.querySelector("button").addEventListener("click", () => {
        const now = header.getAttribute("aria-sort");
        // Numbers are most often wanted from the highest down, names from the first on.
        const descending = now ? now === "ascending" : header.classList.contains("num");
        sort(table, column, descending);
      });
    });
  }

  class Filter {
    constructor(form) {
      this.form = form;
      const name = form.getAttribute("data-table"); // form.dataset is its select of that name
      this.table = document.getElementById(name);
      this.count = document.getElementById(`${name}-count`);
      this.mixed = document.getElementById(`${name}-mixed`);
      this.keys = [...this.table.tHead.rows[0].cells].map((header) => header.dataset.key || "");
      this.context = [...this.table.tHead.rows[0].cells].flatMap((header, i) => ("context" in header.dataset ? [i] : []));
      this.rows = [...body(this.table).rows].map((row) => ({ row, texts: [...row.cells].map(text) }));
      form.addEventListener("input", () => this.apply());
      form.addEventListener("submit", (event) => event.preventDefault());
      form.addEventListener("reset", (event) => { event.preventDefault(); this.reset(); });
      this.reset();
      this.table.classList.add("ready");
    }

    reset() {
      for (const select of this.form.querySelectorAll("select")) {
        const wanted = select.dataset.default;
        select.selectedIndex = 0;
        if (wanted !== undefined) select.value = wanted;
      }
      const search = this.form.elements.search;
      if (search) search.value = "";
      this.apply();
    }

    apply() {
      const view = this.form.elements.view ? this.form.elements.view.value : "mean";
      const search = this.form.elements.search ? this.form.elements.search.value.trim().toLowerCase() : "";
      const wanted = [...this.form.querySelectorAll("select")]
        .filter((select) => select.name !== "view" && select.value)
        .map((select) => [this.keys.indexOf(select.name), select.value]);
      const shown = [];
      for (const { row, texts } of this.rows) {
        const inView = !row.dataset.view || row.dataset.view === "both" || row.dataset.view === view;
        const searched = this.table.id === "leaderboard" ? texts[0] : texts.join(" ");
        const fits = inView && (!search || searched.toLowerCase().includes(search))
          && wanted.every(([column, value]) => texts[column] === value);
        row.hidden = !fits;
        if (fits) shown.push({ row, texts });
      }
      this.say(shown);
      this.table.dispatchEvent(new Event("rowschange"));
    }

    // How many rows there are, and what all of them share: a column that says the same in each row is said once.
    say(shown) {
      this.table.parentElement.classList.toggle("long", shown.length > LONG);
      const same = [];
      for (const column of this.context) {
        const common = shown.length > 1 && shown.every(({ texts }) => texts[column] === shown[0].texts[column]);
        this.table.classList.toggle(`hide-${column + 1}`, common);
        if (common) same.push(shown[0].texts[column]);
      }
      const number = document.createElement("b");
      number.textContent = `${shown.length} of ${this.rows.length} rows`;
      this.count.replaceChildren(number, same.length ? `, all of them: ${same.join(" · ")}` : "");
      if (!this.mixed) return;
      const groups = new Set(shown.map(({ row }) => row.dataset.group)).size;
      this.mixed.hidden = groups < 2;
      this.mixed.textContent = `These rows are of ${groups} groups that do not compare: they differ in dataset, student, `
        + "attack, protocol, schedule or images. Choose one of each to rank defenses.";
    }
  }

  document.querySelectorAll("table.sortable").forEach(makeSortable);
  document.querySelectorAll("form.filters[data-table]").forEach((form) => new Filter(form));
})();
