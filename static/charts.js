// Charts over time with uPlot. A chart stands outside what morphs; it fetches JSON and then only what is new (?since=).
//
// JSON: { label, unit, y: [low, high] | null, x: [from, to] | null, stack, arms: [{ arm, name }], t: [...],
//         values: [[...], ...], plan: { t, v } | null, marks: [{ t, label, now }], limit, bucket, whole }
(() => {
  const probe = document.createElement('i');
  const css = name => { probe.style.color = `var(${name})`; return getComputedStyle(probe).color; };
  const faded = (colour, alpha) => colour.replace(/^rgb\((.*)\)$/, (_, parts) => `rgb(${parts.replaceAll(',', ' ')} / ${alpha})`);
  const isDark = () => getComputedStyle(document.documentElement).colorScheme.startsWith('dark')
    || (document.documentElement.dataset.theme ?? (matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light')) === 'dark';
  const clock = seconds => new Date(seconds * 1000).toISOString().slice(11, 16);
  const FONT = 'Inter, system-ui, sans-serif';
  const charts = new Map();         // element -> { config, plot }

  function nice(top) {
    if (!(top > 0)) return 1;
    const step = 10 ** Math.floor(Math.log10(top));
    return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].map(n => n * step).find(n => n >= top);
  }

  function merge(old, fresh) {
    if (!old || fresh.whole || old.arms.length !== fresh.arms.length) return fresh;
    const first = fresh.t[0] ?? Infinity, from = fresh.from ?? -Infinity;
    const kept = old.t.map((t, i) => [t, i]).filter(([t]) => t < first && t >= from).map(([, i]) => i);
    return {
      ...fresh,
      t: [...kept.map(i => old.t[i]), ...fresh.t],
      values: fresh.values.map((column, k) => [...kept.map(i => old.values[k][i]), ...column]),
    };
  }

  // Measured points and the plan share one x axis: each has gaps where only the other has a value.
  function columns(config) {
    if (!config.plan) return [config.t, ...config.values];
    const xs = [...new Set([...config.t, ...config.plan.t])].sort((a, b) => a - b);
    const at = (ts, vs) => { const known = new Map(ts.map((t, i) => [t, vs[i]])); return xs.map(x => known.get(x) ?? null); };
    return [xs, ...config.values.map(column => at(config.t, column)), at(config.plan.t, config.plan.v)];
  }

  function draw(element, config) {
    const ink = css('--ink-3'), axis = { stroke: ink, grid: { stroke: css('--line'), width: 1 }, ticks: { show: false }, font: `11px ${FONT}` };
    const stepped = uPlot.paths.stepped({ align: 1 });
    const series = [{}], bands = [];
    let data = columns(config);
    const colour = arm => css(`--arm-${arm}`);
    if (config.stack) {              // arms are stacked in their order, the first at the bottom
      const sums = []; let run = data[0].map(() => 0);
      config.arms.forEach((_, i) => { run = run.map((v, k) => data[i + 1][k] == null ? null : v + data[i + 1][k]); sums.push(run); });
      [...config.arms].reverse().forEach(({ arm }) => series.push({
        stroke: colour(arm), width: 1.5, paths: stepped, points: { show: false },
        fill: faded(colour(arm), arm === 0 ? .13 : isDark() ? .38 : .26),
      }));
      for (let i = 1; i < config.arms.length; i++) bands.push({ series: [i, i + 1] });
      data = [data[0], ...sums.reverse(), ...data.slice(config.arms.length + 1)];
    } else {
      config.arms.forEach(({ arm, step, fill }) => series.push({
        stroke: colour(arm), width: 1.6, points: { show: config.t.length < 3 }, paths: step ? stepped : undefined,
        fill: fill ? faded(colour(arm), .12) : undefined,
      }));
    }
    if (config.plan) series.push({ stroke: css('--ink-2'), dash: [4, 4], width: 1.4, points: { show: false }, paths: stepped, spanGaps: true });
    const highest = Math.max(config.limit ?? 0, ...config.values.flat().filter(v => v != null));
    const y = config.y ?? [0, nice(highest * 1.15)];
    const last = config.t.at(-1) ?? Date.now() / 1000, first = config.t[0] ?? last - 60;
    const x = config.x ?? [Math.min(first, last - 60), last];
    const small = element.classList.contains('small');
    const plot = new uPlot({
      width: element.clientWidth - 16, height: element.clientHeight - 10, series, bands, legend: { show: false },
      plugins: [marks(config, ink)],
      cursor: { sync: { key: uPlot.sync('page').key }, y: false, points: { size: 6 } },
      scales: { x: { time: false, range: () => x }, y: { range: () => y } },
      axes: [
        { ...axis, size: 28, values: (u, v) => v.map(clock), space: small ? 60 : 70,
          incrs: [60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 86400] },
        { ...axis, size: 46, space: small ? 26 : 30, values: (u, v) => v.map(n => `${+n.toPrecision(6)}${config.unit}`) },
      ],
    }, data, element);
    plot.over.setAttribute('aria-hidden', 'true');
    return plot;
  }

  function marks(config, ink) {
    return { hooks: { drawAxes: [u => {
      const { ctx, bbox: { left, top, width, height } } = u, dpr = devicePixelRatio;
      ctx.save();
      ctx.font = `500 ${10.5 * dpr}px ${FONT}`;
      let free = -Infinity;           // labels that would touch are left out; their lines stay
      (config.marks || []).forEach(mark => {
        const at = Math.round(u.valToPos(mark.t, 'x', true));
        if (at < left || at > left + width) return;
        ctx.strokeStyle = css(mark.now ? '--ink-2' : '--line-2');
        ctx.lineWidth = dpr;
        ctx.setLineDash(mark.now ? [] : [3 * dpr, 3 * dpr]);
        ctx.beginPath(); ctx.moveTo(at, top); ctx.lineTo(at, top + height); ctx.stroke();
        const wide = ctx.measureText(mark.label).width, flip = at + wide + 8 * dpr > left + width;
        const from = flip ? at - wide - 4 * dpr : at + 4 * dpr;
        if (from < free) return;
        free = from + wide + 6 * dpr;
        ctx.textAlign = 'left'; ctx.fillStyle = ink;
        ctx.fillText(mark.label, from, top + 10 * dpr);
      });
      if (config.limit != null) {
        const at = Math.round(u.valToPos(config.limit, 'y', true));
        ctx.strokeStyle = css('--fail'); ctx.lineWidth = dpr; ctx.setLineDash([4 * dpr, 3 * dpr]);
        ctx.beginPath(); ctx.moveTo(left, at); ctx.lineTo(left + width, at); ctx.stroke();
      }
      ctx.restore();
    }] } };
  }

  function redraw(element) {
    const chart = charts.get(element);
    chart.plot?.destroy();
    chart.plot = null;
    element.classList.toggle('empty-chart', !chart.config.t.length);
    if (chart.config.t.length || chart.config.plan) chart.plot = draw(element, chart.config);
    element.setAttribute('aria-label', chart.config.label);
    fillTable(element, chart.config);
  }

  // The same numbers as a table, built when somebody opens it.
  function fillTable(element, config) {
    const details = element.parentElement.querySelector('details.data');
    if (!details?.open) return;
    const every = Math.max(1, Math.ceil(config.t.length / 24));
    const table = document.createElement('table');
    const caption = table.createCaption();
    caption.className = 'vh'; caption.textContent = config.label;
    const head = table.createTHead().insertRow();
    ['Time', ...config.arms.map(a => a.name)].forEach((name, i) => {
      const cell = document.createElement('th'); cell.scope = 'col'; cell.textContent = name; if (i) cell.className = 'r'; head.append(cell);
    });
    const body = table.createTBody();
    config.t.forEach((t, i) => {
      if ((config.t.length - 1 - i) % every) return;
      const row = body.insertRow();
      row.insertCell().textContent = clock(t);
      config.values.forEach(column => {
        const cell = row.insertCell(); cell.className = 'r num';
        cell.textContent = column[i] == null ? 'no data' : `${+column[i].toPrecision(4)}${config.unit}`;
      });
    });
    details.querySelector('.table').replaceChildren(table);
  }

  async function ask(url) {
    const answer = await fetch(url, { headers: { Accept: 'application/json' } });
    return answer.ok ? answer.json() : null;
  }

  // One question a chart at a time: answers of a slow network that overtake each other would tear its data. What became
  // known meanwhile is asked for afterwards.
  async function load(element) {
    const chart = charts.get(element);
    if (chart.asking) { chart.again = true; return; }
    chart.asking = true;
    try {
      do {
        chart.again = false;
        await askFor(element, chart);
      } while (chart.again);
    } finally { chart.asking = false; }
  }

  async function askFor(element, chart) {
    const last = chart.config?.t.at(-1);
    const url = new URL(element.dataset.chart, location.href);
    if (last !== undefined) url.searchParams.set('since', last);
    let fresh = await ask(url);
    if (fresh && chart.config && fresh.bucket !== chart.config.bucket) {   // it grew: points are wider now
      url.searchParams.delete('since');
      chart.config = null;
      fresh = await ask(url);
    }
    if (!fresh) return;               // the last good data stays; the page says how old it is
    chart.config = merge(chart.config, fresh);
    redraw(element);
  }

  let waiting = null;
  function loadAll() {
    if (waiting) return;
    waiting = setTimeout(() => { waiting = null; charts.forEach((_, element) => load(element).catch(() => {})); }, 400);
  }

  document.addEventListener('DOMContentLoaded', () => {
    probe.hidden = true; document.body.append(probe);
    document.querySelectorAll('[data-chart]').forEach(element => {
      charts.set(element, { config: null, plot: null, asking: false, again: false });
      element.parentElement.querySelector('details.data')?.addEventListener('toggle', () => {
        const { config } = charts.get(element);
        if (config) fillTable(element, config);
      });
      load(element).catch(() => {});
    });
    new ResizeObserver(() => charts.forEach(({ plot }, element) => plot?.setSize({
      width: element.clientWidth - 16, height: element.clientHeight - 10,
    }))).observe(document.getElementById('main'));
    document.addEventListener('changed', loadAll);
    const again = () => charts.forEach((chart, element) => chart.config && redraw(element));
    document.addEventListener('theme', again);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', again);
  });
})();
