// Live pages, dialogs, keyboard, copy, theme. Nothing inline, no eval: runs under script-src 'self'.
(() => {
  const POLL_LOST_MS = 10000;      // without a stream
  const POLL_SAFE_MS = 15000;      // beside a stream, in case a hint was missed
  const STALE_MS = 60000;          // after this, forward actions are off; rolling back never is
  const LOST_AFTER_MS = 4000;      // a stream that ends is reopened at once; only a longer gap is worth a word
  const $ = id => document.getElementById(id);
  const keep = (key, value) => { try { localStorage.setItem(key, value); } catch { /* storage is off */ } };
  const kept = key => { try { return localStorage.getItem(key); } catch { return null; } };

  // ------------------------------------------------------------------ the live stream
  const live = { streaming: false, lostAt: 0, heardAt: Date.now(), askedAt: Date.now() };

  function refetch() {
    live.askedAt = Date.now();
    const stream = $('live');
    if (stream) stream.dispatchEvent(new CustomEvent('changed', { bubbles: true }));
  }

  function say(element, strong, rest, stale) {
    element.classList.toggle('stale', stale);
    const [word, more] = element.children;
    if (word.textContent !== strong) word.textContent = strong;
    if (more.textContent !== rest) more.textContent = rest;
  }

  function ago(ms) {
    const s = Math.round(ms / 1000);
    return s < 60 ? `${s} s` : `${Math.floor(s / 60)} min ${s % 60} s`;
  }

  function tick() {
    const element = $('live-state');
    if (!element || !$('live')) return;
    const now = Date.now(), age = now - live.heardAt;
    const lost = !live.streaming && live.lostAt && now - live.lostAt > LOST_AFTER_MS;
    if (now - live.askedAt > (lost ? POLL_LOST_MS : POLL_SAFE_MS) && !document.hidden) refetch();
    const stale = age > STALE_MS;
    document.documentElement.toggleAttribute('data-stale', stale);
    if (stale) say(element, 'Stale', ` · from ${ago(age)} ago`, true);
    else if (lost) say(element, 'Stream lost', ' · polling every 10 s', true);
    else say(element, 'Live', ` · updated ${ago(age)} ago`, false);
    guard();
  }

  // Forward actions wait for fresh data. The server checks again whatever the page says.
  function guard() {
    const stale = document.documentElement.hasAttribute('data-stale');
    document.querySelectorAll('[data-forward]').forEach(element => {
      element.toggleAttribute('inert', stale);
      element.toggleAttribute('aria-disabled', stale);
    });
    document.querySelectorAll('[data-stale-note]').forEach(note => { note.hidden = !stale; });
  }

  // A hint about the global stop, or a poll, also asks for the band over the page.
  document.addEventListener('changed', event => {
    const topic = event.detail?.data;
    if (!topic || topic === 'global-stop') $('banners')?.dispatchEvent(new CustomEvent('refresh'));
  });

  const isStream = event => event.target instanceof Element && event.target.id === 'live';
  document.addEventListener('htmx:sse:after:connection', () => { live.streaming = true; live.lostAt = 0; });
  for (const name of ['htmx:sse:error', 'htmx:sse:close', 'htmx:error']) {
    document.addEventListener(name, event => {
      if (!isStream(event)) return;
      live.streaming = false;
      live.lostAt ||= Date.now();
    });
  }
  document.addEventListener('htmx:sse:before:connection', event => {
    if (event.detail.connection?.attempt > 0) { live.streaming = false; live.lostAt ||= Date.now(); }
  });
  document.addEventListener('htmx:before:request', event => {
    if (event.target instanceof Element && event.target.id === 'fresh') $('main').setAttribute('aria-busy', 'true');
  });
  document.addEventListener('htmx:finally:request', event => {
    if (!(event.target instanceof Element) || event.target.id !== 'fresh') return;
    $('main').removeAttribute('aria-busy');
    const status = event.detail.ctx.response?.status;
    if (status && status < 400) live.heardAt = Date.now();
    tick();
  });
  document.addEventListener('visibilitychange', () => { if (!document.hidden) refetch(); });
  setInterval(tick, 1000);

  // ------------------------------------------------------------------ dialogs
  // A confirmation is a page of its own; with script it opens in the dialog, with fresh numbers.
  document.addEventListener('htmx:after:swap', event => {
    const dialog = $('dialog');
    if (event.detail.ctx.target?.id !== 'dialog-body' || dialog.open) return;
    dialog.showModal();
  });
  document.addEventListener('done', () => { $('dialog').close(); refetch(); });

  function open(id) {
    const dialog = $(id);
    if (!dialog.open) dialog.showModal();
    if (id === 'search') $('search-words').select();
  }

  document.addEventListener('click', event => {
    const target = event.target;
    if (!(target instanceof Element)) return;
    const opener = target.closest('[data-open]'), copier = target.closest('[data-copy]');
    if (opener) open(opener.dataset.open);
    if (copier) copy(copier);
    const closer = target.closest('[data-close]'), dialog = closer?.closest('dialog');
    if (dialog) { event.preventDefault(); dialog.close(); }
    const filler = target.closest('[data-fill]');
    if (filler) {
      const field = document.getElementsByName(filler.dataset.fill)[0];
      field.value = filler.dataset.with;
      for (const name of ['input', 'change']) field.dispatchEvent(new Event(name, { bubbles: true }));
    }
    if (target.closest('[data-theme-switch]')) switchTheme();
    if (target instanceof HTMLDialogElement) target.close();      // a click on the backdrop
    const menu = document.querySelector('details.menu[open]');
    if (menu && !menu.contains(target)) menu.open = false;
  });

  async function copy(button) {
    const word = button.lastChild, before = word.textContent;
    try {
      await navigator.clipboard.writeText($(button.dataset.copy).textContent);
      word.textContent = 'Copied';
    } catch {
      word.textContent = 'Select the text below';
      $(button.dataset.copy).closest('details')?.setAttribute('open', '');
    }
    setTimeout(() => { word.textContent = before; }, 2000);
  }

  // The name is typed only where all traffic moves.
  document.addEventListener('input', event => {
    const field = event.target;
    if (!(field instanceof HTMLInputElement) || !field.dataset.mustBe) return;
    field.form.querySelector('[data-go]').disabled = field.value.trim() !== field.dataset.mustBe;
  });

  // ------------------------------------------------------------------ theme
  function switchTheme() {
    const root = document.documentElement;
    const dark = (root.dataset.theme || (matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light')) === 'dark';
    root.dataset.theme = dark ? 'light' : 'dark';
    keep('theme', root.dataset.theme);
    document.dispatchEvent(new Event('theme'));
  }

  // ------------------------------------------------------------------ keyboard
  let going = false;
  const keysOn = () => document.body.dataset.keys === 'on' && kept('keys') !== 'off';

  function move(step) {
    const rows = [...document.querySelectorAll('main tbody tr a.name, main .needs li a.btn, main tbody tr th a')];
    if (!rows.length) return;
    const at = rows.indexOf(document.activeElement);
    rows[at < 0 ? (step > 0 ? 0 : rows.length - 1) : (at + step + rows.length) % rows.length].focus();
  }

  document.addEventListener('keydown', event => {
    if (event.ctrlKey || event.metaKey || event.altKey || !keysOn()) return;
    const field = event.target instanceof Element && event.target.closest('input, textarea, select, [contenteditable]');
    if (field || document.querySelector('dialog[open]')) return;
    if (going) {
      going = false;
      const place = document.querySelector(`.nav a[data-letter="${CSS.escape(event.key)}"]`);
      if (place) { event.preventDefault(); place.click(); }
      return;
    }
    if (event.key === '/') { event.preventDefault(); open('search'); }
    else if (event.key === '?') { event.preventDefault(); open('keys'); }
    else if (event.key === 'j') move(1);
    else if (event.key === 'k') move(-1);
    else if (event.key === 'g') { going = true; setTimeout(() => { going = false; }, 1500); }
  });

  // Arrows walk through the search's results, Enter in the field takes the first.
  document.addEventListener('keydown', event => {
    const dialog = $('search');
    if (!dialog?.open || !['ArrowDown', 'ArrowUp', 'Enter', 'Escape'].includes(event.key)) return;
    if (event.key === 'Escape') { event.preventDefault(); dialog.close(); return; }   // not only the field's text
    const links = [...dialog.querySelectorAll('#hits a')], at = links.indexOf(document.activeElement);
    if (event.key === 'Enter') {
      if (at < 0) { event.preventDefault(); links[0]?.click(); }
      return;
    }
    event.preventDefault();
    const next = at + (event.key === 'ArrowDown' ? 1 : -1);
    (next < 0 ? $('search-words') : links[Math.min(next, links.length - 1)])?.focus();
  });

  document.addEventListener('DOMContentLoaded', () => {
    const box = $('keys-on');
    if (box) {
      box.checked = kept('keys') !== 'off';
      box.addEventListener('change', () => keep('keys', box.checked ? 'on' : 'off'));
    }
    tick();
  });
})();
