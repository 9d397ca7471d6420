// What somebody does while nobody listens is kept, and done once somebody does: before app.js runs, and from the moment
// the page is left until the next one is there. First in the head, before anything is shown.
(() => {
  const GOOD_FOR_MS = 15000;        // what is older was not meant for the page that finds it
  const LEAVING_MS = 10000;         // a page that is still here then was not left (a download, an answer without a page)
  const CARRIED = 'carried';
  const held = { listening: false, leavingSince: 0, keys: [], clicks: [], changed: new Map() };
  const store = value => { try { sessionStorage.setItem(CARRIED, JSON.stringify(value)); } catch { /* storage is off */ } };

  try {
    const carried = JSON.parse(sessionStorage.getItem(CARRIED) ?? '{}');
    sessionStorage.removeItem(CARRIED);
    if (Date.now() - carried.at < GOOD_FOR_MS) held.keys = carried.keys;
  } catch { /* storage is off */ }

  const leaving = () => {
    if (held.leavingSince && Date.now() - held.leavingSince > LEAVING_MS) stay();
    return held.leavingSince > 0;
  };
  function stay() { held.leavingSince = 0; held.keys = []; }
  function leave() { held.leavingSince = Date.now(); }

  // Fields that take no text leave the keys to the page.
  const TEXT = 'textarea, select, [contenteditable], input:not([type=checkbox], [type=radio], [type=button], [type=submit], [type=range])';
  const plain = event => !(event.isComposing || event.keyCode === 229 || event.metaKey     // 229: an input method has it
    || ((event.ctrlKey || event.altKey) && !event.getModifierState('AltGraph')));
  const inText = event => event.target instanceof Element && event.target.closest(TEXT) !== null;
  const keysOn = () => {
    try { if (localStorage.getItem('keys') === 'off') return false; } catch { /* storage is off */ }
    return !document.body || document.body.dataset.keys === 'on';
  };

  addEventListener('keydown', event => {
    if (held.listening && !leaving()) return;
    if (event.key === 'Escape') { stay(); return; }                // it stops the loading of a page as well
    if (!plain(event) || inText(event) || !keysOn() || document.querySelector('dialog[open]')) return;
    const letter = event.key.length === 1 && (event.key !== ' ' || held.keys.length > 0);
    const after = held.keys.length > 0 && ['Enter', 'Backspace', 'ArrowDown', 'ArrowUp'].includes(event.key);
    if (!letter && !after) return;
    if (!event.repeat) held.keys.push(event.key);
    event.preventDefault();
    event.stopImmediatePropagation();
  }, true);

  // Before app.js: a button that needs it, and a field whose change it (or htmx) has to hear of.
  addEventListener('click', event => {
    const button = event.target instanceof Element && event.target.closest('button[type=button]');
    if (!held.listening && button) held.clicks.push(button);
  }, true);
  for (const name of ['input', 'change']) {
    addEventListener(name, event => {
      if (held.listening || !(event.target instanceof Element)) return;
      held.changed.set(event.target, (held.changed.get(event.target) ?? new Set()).add(name));
    }, true);
  }

  addEventListener('beforeunload', leave);
  addEventListener('pagehide', () => { if (held.keys.length) store({ at: Date.now(), keys: held.keys }); });
  addEventListener('pageshow', event => { if (event.persisted) stay(); });    // back again, from the browser's memory

  // `listen(press)`: somebody listens from now on. Fields and buttons are told again, then each key is given to `press`;
  // when one of them leaves the page, the rest goes along.
  function listen(press) {
    held.listening = true;
    held.changed.forEach((names, field) => names.forEach(name => field.dispatchEvent(new Event(name, { bubbles: true }))));
    held.clicks.forEach(button => button.click());
    while (held.keys.length && !leaving()) press(held.keys.shift());
  }

  window.early = { leave, leaving, listen, plain, inText, keysOn };
})();
