document.documentElement.classList.add("live");
for (const table of document.querySelectorAll("table.compare")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.querySelector("button")?.addEventListener("click", () => {
    const up = head.getAttribute("aria-sort") !== "ascending";
    heads.forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const value = row => row.cells[column]?.dataset.v ?? "";
    const compare = (a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === "" || y === "") return (x === "") - (y === "");
      const order = head.dataset.text ? x.localeCompare(y) : x - y;
      return up ? order : -order;
    };
    table.tBodies[0].append(...[...table.tBodies[0].rows].sort(compare));
    table.classList.add("sorted");
  }));
}
// Also where a page may not navigate, as in the sandboxed frame in which MLflow shows artifacts.
const reveal = id => {
  const target = document.getElementById(decodeURIComponent(id));
  if (!target) return;
  for (let at = target; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
  target.scrollIntoView();
};
document.addEventListener("click", event => {
  const link = event.target.closest("a[href^='#']");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  reveal(link.hash.slice(1));
  try { history.pushState(null, "", link.hash); } catch { /* no history here */ }
});
addEventListener("popstate", () => reveal(location.hash.slice(1)));
for (const button of document.querySelectorAll("button[data-open]")) {
  const inside = document.getElementById(button.dataset.open).querySelectorAll("details");
  button.addEventListener("click", () => {
    const open = ![...inside].every(details => details.open);
    inside.forEach(details => { details.open = open; });
    document.documentElement.classList.toggle("whole", open);
    button.textContent = open ? "Close all" : "Open all";
  });
}
if (location.hash) reveal(location.hash.slice(1));
