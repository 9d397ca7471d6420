// Before the first paint: the theme that was chosen in this browser, or the system's.
(() => {
  const asked = new URLSearchParams(location.search).get('theme');
  let kept = null;
  try { kept = localStorage.getItem('theme'); } catch { /* storage is off: the system decides */ }
  const theme = asked || kept;
  if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
})();
