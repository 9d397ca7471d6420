// Live pages, dialogs, keyboard, copy, theme. Nothing inline, no eval: runs under script-src 'self'.
(() => {
  const POLL_LOST_MS = 10000;      // without a stream
  const POLL_SAFE_MS = 15000;      // beside a stream, in case a hint was missed
  const STALE_MS = 60000;          // after this, forward actions are off; rolling back never is
  const SKIPPED_MS = 10000;        // so long it is said that hints were too many to be told apart
  const LOST_AFTER_MS = 4000;      // a stream that ends is reopened at once; only a longer gap is worth a word
  const $ = id => document.getElementById(id);
  const keep = (key, value) => { try { localStorage.setItem(key, value); } catch { /* storage is off */ } };
  const kept = key => { try { return localStorage.getItem(key); } catch { return null; } };

  // ------------------------------------------------------------------ the live stream
  const live = { streaming: false, lostAt: 0, skippedAt: 0, heardAt: Date.now(), askedAt: Date.now() };

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
    else if (now - live.skippedAt < SKIPPED_MS) say(element, 'Live', ' · much changed at once, all was fetched anew', false);
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

  // A hint about the global stop or about everything, or a poll, also asks for the band over the page.
  document.addEventListener('changed', event => {
    const topic = event.detail?.data;
    if (topic === 'everything') live.skippedAt = Date.now();
    if (!topic || topic === 'everything' || topic === 'global-stop') $('banners')?.dispatchEvent(new CustomEvent('refresh'));
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
    if (id === 'keys') $('search').close();          // it is offered there
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
      if (field) field.value = filler.dataset.with;
      for (const name of ['input', 'change']) field?.dispatchEvent(new Event(name, { bubbles: true }));
    }
    if (target.closest('[data-theme-switch]')) switchTheme();
    if (target instanceof HTMLDialogElement) target.close();      // a click on the backdrop
    const menu = document.querySelector('details.menu[open]');
    if (menu && !menu.contains(target)) menu.open = false;
  });

  async function copy(button) {
    const word = button.lastChild, before = button.dataset.word ??= word.textContent;      // not "Copied", the second time
    try {
      await navigator.clipboard.writeText($(button.dataset.copy).textContent);
      word.textContent = 'Copied';
    } catch {
      word.textContent = 'Select the text below';
      $(button.dataset.copy).closest('details')?.setAttribute('open', '');
    }
    setTimeout(() => { word.textContent = before; }, 2000);
  }

  // What is only told while somebody types (data-yields) gives way to what they then do with that form: both answers
  // replace the form, and the later one would take back a row, a view or a choice.
  document.addEventListener('htmx:before:request', event => {
    const source = event.target instanceof Element ? event.target : null, form = source?.closest('form');
    if (!form) return;
    if (!source.hasAttribute('data-yields')) {
      form.querySelectorAll('[data-yields]').forEach(teller => teller.dispatchEvent(new CustomEvent('htmx:abort')));
    } else if (form.matches('.htmx-request') || form.querySelector('.htmx-request:not([data-yields])')) event.preventDefault();
  });

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
  const { plain, inText, keysOn } = early;
  const GOING_MS = 1500;
  let goingSince = 0;               // when g was pressed
  let opener = '';                  // the key that opened a dialog: held down, it must not type into it

  function move(step) {
    const rows = [...document.querySelectorAll('main tbody tr a.name, main .needs li a.btn, main tbody tr th a')];
    if (!rows.length) return;
    const at = rows.indexOf(document.activeElement);
    rows[at < 0 ? (step > 0 ? 0 : rows.length - 1) : (at + step + rows.length) % rows.length].focus();
  }

  // Whether the key means something on a page without an open dialog; if so, it was done.
  function shortcut(key) {
    const going = Date.now() - goingSince < GOING_MS;
    goingSince = 0;
    if (going) {
      const place = document.querySelector(`.nav a[data-letter="${CSS.escape(key)}"]`);
      if (place) { early.leave(); place.click(); }
      return place !== null;
    }
    if (key === '/') open('search');
    else if (key === '?') open('keys');
    else if (key === 'j') move(1);
    else if (key === 'k') move(-1);
    else if (key === 'g') goingSince = Date.now();
    else return false;
    return true;
  }

  document.addEventListener('keydown', event => {
    if (event.repeat && event.key === opener) { event.preventDefault(); return; }
    opener = '';
    const menu = document.querySelector('details.menu[open]');
    if (menu && event.key === 'Escape') { menu.open = false; menu.querySelector('summary').focus(); return; }
    if (!plain(event) || !keysOn() || inText(event) || document.querySelector('dialog[open]')) return;
    if (['Shift', 'CapsLock', 'AltGraph'].includes(event.key)) return;        // half of a key, such as ? or a capital
    if (event.repeat && !['j', 'k'].includes(event.key)) return;
    const key = event.shiftKey ? event.key : event.key.toLowerCase();         // j is j under caps lock
    if (!shortcut(key)) return;
    event.preventDefault();
    if (document.querySelector('dialog[open]')) opener = event.key;
  });

  // ------------------------------------------------------------------ search
  // Arrows walk through the results, Enter in the field takes the first. Keys that come before the answer to what is
  // written wait for it: the list on the screen is that of other words.
  let waiting = [];
  const words = () => $('search-words');
  const answered = () => ($('hits').querySelector('[data-words]')?.dataset.words ?? '').trim() === words().value.trim();

  function walk(key) {
    if (waiting.length || !answered()) {
      waiting.push(key);
      if (key === 'Enter' && !words().classList.contains('htmx-request')) words().dispatchEvent(new Event('again'));
      return;
    }
    const links = [...$('hits').querySelectorAll('a')], at = links.indexOf(document.activeElement);
    if (key === 'Enter') { links[Math.max(at, 0)]?.click(); return; }
    const next = at + (key === 'ArrowDown' ? 1 : -1);
    (next < 0 ? words() : links[Math.min(next, links.length - 1)])?.focus();
  }

  document.addEventListener('keydown', event => {
    const dialog = $('search');
    if (!dialog?.open || !plain(event) || event.shiftKey) return;
    const here = event.target === words() || event.target.closest('#hits a') !== null;
    if (event.key === 'Escape') { event.preventDefault(); dialog.close(); }   // not only the field's text
    else if (['ArrowDown', 'ArrowUp'].includes(event.key) || (event.key === 'Enter' && here)) {
      event.preventDefault();
      walk(event.key);
    }
  });

  document.addEventListener('input', event => { if (event.target === words()) waiting = []; });
  document.addEventListener('htmx:after:swap', event => {
    if (event.detail.ctx.target?.id !== 'hits' || !answered()) return;
    for (const key of waiting.splice(0)) walk(key);
  });
  document.addEventListener('htmx:response:error', event => { if (event.target === words()) waiting = []; });
  document.addEventListener('htmx:error', event => {
    if (event.target !== words()) return;
    waiting = [];
    const note = Object.assign(document.createElement('p'), { className: 'note pad', textContent: 'No answer. Enter asks again.' });
    $('hits').replaceChildren(note);
  });
  // A result leads away: what is typed from here on is meant for the page it leads to.
  document.addEventListener('click', event => {
    if (!(event.target instanceof Element) || !event.target.closest('#hits a') || !plain(event) || event.shiftKey) return;
    $('search').close();
    early.leave();
  });

  // ------------------------------------------------------------------ what was done before this script ran
  // A key that was kept: as if it were pressed now.
  function pressed(key) {
    if (!keysOn()) return;
    if ($('search').open) {
      if (key.length > 1 && key !== 'Backspace') { walk(key); return; }
      words().value = key === 'Backspace' ? words().value.slice(0, -1) : words().value + key;
      words().dispatchEvent(new Event('input', { bubbles: true }));
    } else if (key === 'Enter') {
      const link = document.activeElement.closest('main a');
      if (link) { early.leave(); link.click(); }
    } else if (!document.querySelector('dialog[open]')) shortcut(key);
  }

  htmx.process(document.body);      // now, not at the browser's next quiet moment: a field is heard before it can be typed in
  const box = $('keys-on');
  if (box) {
    box.checked = kept('keys') !== 'off';
    box.addEventListener('change', () => keep('keys', box.checked ? 'on' : 'off'));
  }
  early.listen(pressed);
  document.addEventListener('DOMContentLoaded', tick);
})();
