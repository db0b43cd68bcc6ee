// Sets the colours before anything is painted: what was chosen here, else what the system prefers.
(function () {
  let chosen = null;
  try { chosen = localStorage.getItem("penstock.theme"); } catch { /* storage is forbidden: the system decides */ }
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();
