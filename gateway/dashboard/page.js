'use strict';
(() => {
// No text becomes markup, whoever writes it: the library's labels come out as text, too.
if (window.trustedTypes) {
  trustedTypes.createPolicy('default', {
    createHTML: (s) => s.replace(/[&<>"]/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[c]),
  });
}

const SPAN = 300; // seconds that are drawn
const SPARK = 60;
const EVENTS = 200; // that are listed
const LEVEL_WORDS = ['healthy', 'latency', 'capacity', 'partial', 'outage'];
const LEVEL_DOES = [
  'Full service.',
  'Batches are smaller and nobody waits for company; optional features are off.',
  'Half of its share goes to the model; the rest goes down its chain at once.',
  'What the cache keeps is given first, stale answers too; a quarter of its share goes to the model, the rest down its chain.',
  'The model is not asked: callers get what its chain still has, the written answer, or 503.',
];
const $ = (id) => document.getElementById(id);
const wait = (ms) => new Promise((done) => setTimeout(done, ms));

// ---- drawing: one job a task, so that the page never stands still --------------------------------------

const jobs = new Map(); // by name: the newest of a name is drawn, once
const channel = new MessageChannel();
channel.port1.onmessage = () => {
  const [name, job] = jobs.entries().next().value || [];
  if (!name) return;
  jobs.delete(name);
  if (jobs.size > 0) channel.port2.postMessage(0);
  job();
};
function draw(name, job) {
  if (frozen) return;
  if (jobs.size === 0) channel.port2.postMessage(0);
  jobs.set(name, job);
}

function set(node, text) { // what has not changed is not touched
  text = String(text);
  if (node.textContent !== text) node.textContent = text;
}
function attr(node, name, value) {
  if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}
function hide(node, hidden) {
  if (node.hidden !== hidden) node.hidden = hidden;
}
function flag(node, name, on) {
  if (node.classList.contains(name) !== on) node.classList.toggle(name, on);
}
function make(tag, more, ...inside) {
  const node = document.createElement(tag);
  Object.assign(node, more);
  node.append(...inside);
  return node;
}
function svg(tag, attributes, ...inside) {
  const node = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [k, v] of Object.entries(attributes)) node.setAttribute(k, v);
  node.append(...inside);
  return node;
}

// A table whose rows are known by a key: cells are filled in place, so that focus and selection stay. columns: {head, n: a
// number, cell(row): text, or fill(td, row), sort(row)}; the first one is the row's head.
function table(id, caption, columns) {
  const rows = new Map();
  const node = $(id), body = make('tbody'), heads = make('tr');
  let by = null, down = false, list = [];
  columns.forEach((c, i) => {
    const head = make('th', { scope: 'col', className: (c.n ? 'n ' : '') + (c.long ? 'long' : '') });
    if (c.sort) {
      const button = make('button', { type: 'button' }, c.head);
      button.addEventListener('click', () => { // rows change places when somebody asks for it, and not by themselves
        down = by === c ? !down : Boolean(c.n);
        by = c;
        for (const other of heads.children) other.removeAttribute('aria-sort');
        head.setAttribute('aria-sort', down ? 'descending' : 'ascending');
        place(true);
      });
      head.append(button);
      if (i === 0) { by = c; head.setAttribute('aria-sort', 'ascending'); }
    } else head.append(c.head);
    heads.append(head);
  });
  node.append(make('caption', { hidden: false }, caption), make('thead', {}, heads), body);
  node.hidden = true; // until there is a row
  function place(again) {
    if (!by || !again) return;
    const of = (r) => by.sort(r.row);
    const sorted = [...rows.values()].sort((a, b) => (of(a) < of(b) ? -1 : of(a) > of(b) ? 1 : a.key < b.key ? -1 : 1) * (down ? -1 : 1));
    sorted.forEach((r, i) => { if (body.children[i] !== r.node) body.insertBefore(r.node, body.children[i] || null); });
  }
  return (next) => { // [[key, row], …]
    const seen = new Set();
    let fresh = false;
    for (const [key, row] of next) {
      seen.add(key);
      let r = rows.get(key);
      if (!r) {
        r = { key, node: make('tr'), cells: [] };
        r.node.dataset.key = key;
        columns.forEach((c, i) => {
          const cell = make(i === 0 ? 'th' : 'td', { className: (c.n ? 'n ' : '') + (c.long ? 'long ' : '') + (c.className || '') });
          if (i === 0) cell.scope = 'row';
          r.cells.push(cell);
        });
        r.node.append(...r.cells);
        rows.set(key, r);
        fresh = true;
      }
      r.row = row;
      columns.forEach((c, i) => (c.fill ? c.fill(r.cells[i], row) : set(r.cells[i], c.cell(row))));
    }
    for (const [key, r] of rows) if (!seen.has(key)) { r.node.remove(); rows.delete(key); }
    list = next;
    if (by) place(fresh);
    else if (fresh) list.forEach(([key], i) => { const n = rows.get(key).node; if (body.children[i] !== n) body.insertBefore(n, body.children[i] || null); });
    hide(node, next.length === 0);
  };
}

// ---- quantities ----------------------------------------------------------------------------------------

const count = (n) => (n >= 1e6 ? (n / 1e6).toFixed(1) + 'M' : n >= 1e4 ? (n / 1e3).toFixed(1) + 'k' : String(n));
const rate = (n) => (n === 0 ? '0' : n < 10 ? n.toFixed(1) : count(Math.round(n)));
const took = (us) => (us === undefined || Number.isNaN(us) ? '–' : us < 1000 ? us + ' µs' : us < 999950 ? (us / 1e3).toFixed(1) + ' ms' : (us / 1e6).toFixed(1) + ' s');
const size = (b) => (b < 1024 ? b + ' B' : b < 1048576 ? (b / 1024).toFixed(1) + ' KiB' : b < 1073741824 ? (b / 1048576).toFixed(1) + ' MiB' : (b / 1073741824).toFixed(1) + ' GiB');
const share = (ppm) => Math.round(ppm / 1e4) + '%';
const lasted = (s) => (s < 60 ? s + ' s' : s < 3600 ? Math.floor(s / 60) + ' min' : s < 86400 ? Math.floor(s / 3600) + ' h ' + Math.floor((s % 3600) / 60) + ' min' : Math.floor(s / 86400) + ' d ' + Math.floor((s % 86400) / 3600) + ' h');
const clock = (ms) => new Date(ms).toLocaleTimeString([], { hour12: false });
const why = (cause) => (!cause || cause === 'none' ? '–' : cause.replaceAll('_', ' '));
const sum = (o) => Object.values(o || {}).reduce((a, b) => a + b, 0);

// ---- what is known -------------------------------------------------------------------------------------

// Of a model, and of all together: what stands, what was counted since the process began, and a ring of what each second brought.
const SERIES = ['model', 'fallback', 'cache', 'default', 'failed', 'p50', 'p99', 'rows', 'waiting'];
const REASONS = ['full', 'preferred', 'idle', 'wait', 'deadline'];
function known(name) {
  const ring = {};
  for (const s of SERIES) ring[s] = new Float64Array(SPAN).fill(NaN);
  return { name, ring, total: { answers: {}, failures: {}, by: {}, batches: {}, cache: {} }, batches: [], now: {} };
}
const models = new Map();
const all = known('');
const when = new Float64Array(SPAN).fill(NaN); // of each place in the rings, ms
let at = -1; // the newest place
let token = null, frozen = false, boot = null, page = null, chosen = '', variants = new Map(), trials;
const events = []; // newest last
const moves = new Map(); // model: [{ms, level, cause}], by events

const of = (name) => (name ? models.get(name) || all : all);

function add(into, from) {
  for (const [k, n] of Object.entries(from || {})) into[k] = (into[k] || 0) + n;
}

// One second of a model. m: undefined: nothing happened there.
function record(k, m, seconds) {
  const r = k.ring;
  const by = m ? sum(m.by) : 0;
  const a = (m && m.answers) || {};
  const kept = (a.cache || 0) + (a.stale || 0);
  r.model[at] = Math.max(0, (a.model || 0) - by) / seconds;
  r.fallback[at] = by / seconds;
  r.cache[at] = kept / seconds;
  r.default[at] = (a.default || 0) / seconds;
  r.failed[at] = (m ? sum(m.failures) : 0) / seconds;
  r.p50[at] = m && m.p50_us !== undefined ? m.p50_us / 1e3 : NaN;
  r.p99[at] = m && m.p99_us !== undefined ? m.p99_us / 1e3 : NaN;
  const batches = m ? sum(m.batches) : 0;
  r.rows[at] = batches ? m.rows / batches : NaN;
  r.waiting[at] = k.now.waiting || 0;
  k.batches = k.batches.filter((b) => b.ms > Date.now() - SPAN * 1000);
  if (batches) k.batches.push({ ms: Date.now(), reasons: m.batches, sizes: m.sizes || [] });
}

const GAUGES = ['level', 'cause', 'pinned', 'ready', 'share_ppm', 'waiting', 'running', 'queue_limit', 'max_batch'];
const COUNTS = ['answers', 'failures', 'by', 'batches', 'cache'];

function take(e) {
  if (e.whole) {
    if (boot && boot !== e.boot_id) say('The gateway process has started anew: its counters begin at zero.');
    boot = e.boot_id;
    const here = new Set(e.models.map((m) => m.name));
    for (const name of models.keys()) if (!here.has(name)) models.delete(name);
  }
  for (const name of e.gone || []) models.delete(name);
  const told = new Map();
  for (const m of e.models) {
    if (!models.has(m.name)) models.set(m.name, known(m.name));
    const k = models.get(m.name);
    for (const g of GAUGES) k.now[g] = m[g];
    if (e.whole) k.total = known('').total;
    for (const c of COUNTS) add(k.total[c], m[c]);
    told.set(m.name, m);
  }
  if (!e.whole) {
    const together = { answers: {}, failures: {}, by: {}, batches: {}, rows: 0, sizes: [], p50_us: e.p50_us, p99_us: e.p99_us };
    const seconds = Math.max(e.ms / 1000, 0.1);
    at = (at + 1) % SPAN;
    when[at] = Date.now();
    all.now.waiting = 0;
    for (const [name, k] of models) {
      const m = told.get(name);
      record(k, m, seconds);
      all.now.waiting += k.now.waiting;
      if (!m) continue;
      for (const c of ['answers', 'failures', 'batches']) add(together[c], m[c]);
      add(together.by, m.by);
      together.rows += m.rows || 0;
      (m.sizes || []).forEach((n, i) => { together.sizes[i] = (together.sizes[i] || 0) + n; });
    }
    record(all, together, seconds);
  }
  for (const v of e.variants || []) variants.set(v.experiment + '\n' + v.variant, v);
  all.now.process = e;
  show();
}

// ---- tables and drawings -------------------------------------------------------------------------------

const level = (td, n) => {
  if (!td.firstElementChild) td.replaceChildren(make('span'));
  const span = td.firstElementChild;
  attr(span, 'class', 'level l' + n);
  set(span, n);
  attr(td, 'title', LEVEL_WORDS[n] || '');
};
function bar(td, part) {
  if (!td.firstChild) td.append(make('i'));
  const width = Math.round(part * 100) + '%';
  if (td.firstChild.style.width !== width) td.firstChild.style.width = width;
}
function spark(td, ring) {
  if (!td.firstChild) td.append(svg('svg', { class: 'spark', viewBox: `0 0 ${SPARK - 1} 20`, preserveAspectRatio: 'none', 'aria-hidden': 'true' }, svg('path', {})));
  let most = 1, d = '';
  const v = [];
  for (let i = SPARK - 1; i >= 0; i--) {
    const p = (at - i + SPAN) % SPAN;
    v.push((ring.model[p] || 0) + (ring.fallback[p] || 0) + (ring.cache[p] || 0) + (ring.default[p] || 0) + (ring.failed[p] || 0));
    most = Math.max(most, v[v.length - 1]);
  }
  v.forEach((n, i) => { d += (i ? 'L' : 'M') + i + ' ' + (19 - (18 * n) / most).toFixed(1); });
  attr(td.firstChild.firstChild, 'd', d);
}
// An interval that holds however often one looks (docs/experiments.md).
const between = (i, unit) => (i && [i.value, i.low, i.high].every(Number.isFinite) ? `${unit(i.value)} (${unit(i.low)} to ${unit(i.high)})` : '–');
function band(td, history) { // of the last quarter of an hour, around no difference
  if (!td.firstChild) td.append(svg('svg', { class: 'band', viewBox: '0 0 180 24', preserveAspectRatio: 'none', 'aria-hidden': 'true' }, svg('path', { class: 'zero', d: 'M0 12H180' }), svg('path', { class: 'area' }), svg('path', {})));
  const most = Math.max(1e-9, ...history.map((i) => Math.max(Math.abs(i.low), Math.abs(i.high))));
  const x = (i) => 180 - history.length + i, y = (v) => (12 - (11 * v) / most).toFixed(1);
  const line = (list, key) => list.map(([i, h], n) => (n ? 'L' : 'M') + x(i) + ' ' + y(h[key])).join('');
  const points = [...history.entries()];
  attr(td.firstChild.children[1], 'd', points.length ? line(points, 'high') + line(points.reverse(), 'low').replace('M', 'L') + 'Z' : '');
  attr(td.firstChild.children[2], 'd', line(points.reverse(), 'value'));
}
const last = (k, s) => (at < 0 ? NaN : k.ring[s][at]);
const rateOf = (k) => (at < 0 ? 0 : ['model', 'fallback', 'cache', 'default', 'failed'].reduce((a, s) => a + (k.ring[s][at] || 0), 0));

const draws = {
  models: table('models-t', 'Each model, as its desk stands', [
    { head: 'Model', sort: (k) => k.name, fill: (th, k) => {
      if (!th.firstChild) {
        const b = make('button', { type: 'button', title: k.name });
        b.addEventListener('click', () => choose(chosen === k.name ? '' : k.name));
        th.append(b);
      }
      set(th.firstChild, k.name);
      attr(th.firstChild, 'aria-pressed', chosen === k.name);
    } },
    { head: 'Level', n: true, sort: (k) => k.now.level, fill: (td, k) => level(td, k.now.level) },
    { head: 'Why', cell: (k) => (k.now.pinned ? 'pinned' : why(k.now.cause)) },
    { head: 'Ready', n: true, sort: (k) => k.now.ready, fill: (td, k) => { set(td, k.now.ready); flag(td, 'bad', k.now.ready === 0); } },
    { head: 'Requests/s', n: true, sort: rateOf, cell: (k) => (at < 0 ? '–' : rate(rateOf(k))) },
    { head: 'Failed/s', n: true, sort: (k) => last(k, 'failed') || 0, fill: (td, k) => { const n = last(k, 'failed'); set(td, at < 0 ? '–' : rate(n || 0)); flag(td, 'bad', n > 0); } },
    { head: 'p50', n: true, sort: (k) => last(k, 'p50') || 0, cell: (k) => took(Math.round(last(k, 'p50') * 1e3)) },
    { head: 'p99', n: true, sort: (k) => last(k, 'p99') || 0, cell: (k) => took(Math.round(last(k, 'p99') * 1e3)) },
    { head: 'Waiting', n: true, sort: (k) => k.now.waiting, cell: (k) => count(k.now.waiting) + ' of ' + count(k.now.queue_limit) },
    { head: 'Running', n: true, sort: (k) => k.now.running, cell: (k) => count(k.now.running) },
    { head: 'Share', n: true, sort: (k) => k.now.share_ppm, cell: (k) => share(k.now.share_ppm) },
    { head: 'Last minute', fill: (td, k) => spark(td, k.ring) },
    { head: 'Hold', fill: (td, k) => {
      if (!td.firstChild) {
        const b = make('button', { type: 'button' });
        b.addEventListener('click', () => askPin(k.name));
        td.append(b);
      }
      set(td.firstChild, k.now.pinned ? 'Let go…' : 'Pin…');
      attr(td.firstChild, 'aria-label', (k.now.pinned ? 'Let go: ' : 'Pin: ') + k.name);
    } },
  ]),
  levels: table('levels-t', 'Moves, newest first', [
    { head: 'When', cell: (e) => clock(e.ms) },
    { head: 'Model', long: true, cell: (e) => e.model },
    { head: 'From', n: true, fill: (td, e) => level(td, e.before) },
    { head: 'To', n: true, fill: (td, e) => level(td, e.level) },
    { head: 'Cause', cell: (e) => why(e.cause) },
    { head: 'Replicas', n: true, cell: (e) => `${e.ready} of ${e.replicas}` },
    { head: 'Share', n: true, cell: (e) => share(e.share) },
  ]),
  reasons: table('reasons-t', 'Why they went', [
    { head: 'Reason', cell: (r) => r.name },
    { head: 'Batches', n: true, cell: (r) => count(r.n) },
    { head: 'Share', className: 'bar', fill: (td, r) => bar(td, r.part) },
  ]),
  sizes: table('sizes-t', 'How large they were', [
    { head: 'Rows', cell: (r) => r.name },
    { head: 'Batches', n: true, cell: (r) => count(r.n) },
    { head: 'Share', className: 'bar', fill: (td, r) => bar(td, r.part) },
  ]),
  workers: table('workers-t', 'Workers: connections of the loops', [
    { head: 'Worker', cell: (w) => w.name },
    { head: 'Address', long: true, cell: (w) => w.address },
    { head: 'Connections', cell: (w) => w.states },
    { head: 'Leaving', cell: (w) => (w.leaving ? 'yes' : 'no') },
  ]),
  replicas: table('replicas-t', 'Replicas, as the model’s home sees them', [
    { head: 'Model', sort: (r) => r.model, cell: (r) => r.model },
    { head: 'Replica', sort: (r) => r.worker, cell: (r) => r.worker },
    { head: 'State', sort: (r) => r.state, fill: (td, r) => { set(td, r.state); flag(td, 'bad', r.state !== 'up'); } },
    { head: 'Breaker', sort: (r) => r.breaker, fill: (td, r) => { set(td, r.breaker); flag(td, 'bad', r.breaker !== 'closed'); } },
    { head: 'Batches out', n: true, sort: (r) => r.batches, cell: (r) => r.batches },
    { head: 'Rows out', n: true, sort: (r) => r.rows, cell: (r) => r.rows },
    { head: 'Takes', n: true, sort: (r) => r.latency_us, cell: (r) => (r.latency_us ? took(r.latency_us) : '–') },
    { head: 'Versions', cell: (r) => r.versions.join(', ') || '–' },
  ]),
  answered: table('answered-t', 'Since the process began', [
    { head: 'Asked', sort: (r) => r.asked, cell: (r) => r.asked },
    { head: 'Answered by', sort: (r) => r.by, cell: (r) => r.by },
    { head: 'Answers', n: true, sort: (r) => r.n, cell: (r) => count(r.n) },
    { head: 'Of its answers', n: true, cell: (r) => share(r.part * 1e6) },
  ]),
  experiments: table('experiments-t', 'Variants; the first one of each is the control', [
    { head: 'Experiment', cell: (v) => v.experiment },
    { head: 'Variant', cell: (v) => v.variant },
    { head: 'Model', cell: (v) => v.model },
    { head: 'Weight', n: true, cell: (v) => (v.weight / 1e4).toFixed(1) + '%' },
    { head: 'Requests', n: true, cell: (v) => count(v.requests) },
    { head: 'Errors', n: true, cell: (v) => count(v.errors) + (v.requests ? ' (' + ((100 * v.errors) / v.requests).toFixed(1) + '%)' : '') },
    { head: 'Errors, against the control', cell: (v) => between(v.lift, (x) => (100 * x).toFixed(2) + '%') },
    { head: 'Over time', fill: (td, v) => band(td, v.history) },
    { head: 'Mean latency, against the control', cell: (v) => between(v.slower, (x) => (x < 0 ? '−' : '') + took(Math.round(Math.abs(x)))) },
    { head: 'By others', n: true, cell: (v) => count(v.fallbacks) },
    { head: 'p50', n: true, cell: (v) => (v.p50_us ? took(v.p50_us) : '–') },
    { head: 'p99', n: true, cell: (v) => (v.p99_us ? took(v.p99_us) : '–') },
    { head: 'State', fill: (td, v) => { set(td, v.state); flag(td, 'bad', v.state !== 'drawn' && v.state !== 'running'); } },
    { head: 'Change', fill: (td, v) => {
      hide(td, !v.trial); // /v1/experiments tells nothing here
      if (!td.firstChild) {
        const b = make('button', { type: 'button' }, 'Change…');
        b.addEventListener('click', () => askTrial(td.row));
        td.append(b);
      }
      td.row = v;
      attr(td.firstChild, 'aria-label', `Change: ${v.experiment}, ${v.variant}`);
    } },
  ]),
  cache: table('cache-t', 'Answers that are kept', [
    { head: 'Model', cell: (c) => c.name },
    { head: 'Entries', n: true, cell: (c) => count(c.entries) },
    { head: 'Bytes', n: true, cell: (c) => size(c.bytes) },
    { head: 'Hits', n: true, cell: (c) => count(c.hits) },
    { head: 'Stale', n: true, cell: (c) => count(c.stale) },
    { head: 'Misses', n: true, cell: (c) => count(c.misses) },
    { head: 'Hit share', className: 'bar', fill: (td, c) => { bar(td, c.part); attr(td, 'title', share(c.part * 1e6)); } },
  ]),
  store: table('store-t', 'Redis, by loop', [
    { head: 'Loop', n: true, cell: (s) => s.loop },
    { head: 'State', fill: (td, s) => { set(td, s.state); flag(td, 'bad', s.state !== 'up'); } },
    { head: 'Why', long: true, cell: (s) => s.why || '–' },
  ]),
  loops: table('loops-t', 'Each loop is a thread', [
    { head: 'Loop', n: true, cell: (l) => l.index },
    { head: 'Connections', n: true, cell: (l) => count(l.connections) },
    { head: 'Streams', n: true, cell: (l) => count(l.streams) },
    { head: 'In flight', n: true, cell: (l) => count(l.in_flight) },
    { head: 'Zombies', n: true, cell: (l) => count(l.zombies) },
    { head: 'Turns/s', n: true, cell: (l) => (l.turns === null ? '–' : rate(l.turns)) },
    { head: 'Delay p99', n: true, cell: (l) => took(l.delay_p99_us) },
    { head: 'Answers', fill: (td, l) => { set(td, l.answered === undefined ? '–' : l.answered ? 'yes' : 'no'); flag(td, 'bad', l.answered === false); } },
  ]),
  events: table('events-t', 'Newest first', [
    { head: 'When', cell: (e) => clock(e.ms) },
    { head: 'Level', fill: (td, e) => { set(td, e.level); flag(td, 'bad', e.level === 'warn' || e.level === 'error'); } },
    { head: 'Event', cell: (e) => e.event },
    { head: 'What', long: true, cell: (e) => e.words },
  ]),
};

function drawBatches() {
  const k = of(chosen), reasons = {}, sizes = [];
  for (const b of k.batches) {
    add(reasons, b.reasons);
    b.sizes.forEach((n, i) => { sizes[i] = (sizes[i] || 0) + n; });
  }
  const n = sum(reasons) || 1;
  set($('batches-of'), chosen || 'all models');
  draws.reasons(REASONS.map((r) => [r, { name: r, n: reasons[r] || 0, part: (reasons[r] || 0) / n }]));
  draws.sizes([...Array(11).keys()].map((i) => {
    const name = i === 0 ? '1' : i === 1 ? '2' : i === 10 ? 'more than 512' : `${(1 << (i - 1)) + 1} to ${1 << i}`;
    return [String(i), { name, n: sizes[i] || 0, part: (sizes[i] || 0) / n }];
  }));
}

function drawAnswered() {
  const pairs = [];
  for (const k of models.values()) {
    const n = sum(k.total.answers);
    for (const [by, m] of Object.entries(k.total.by)) pairs.push({ asked: k.name, by, n: m, part: m / n });
    if (k.total.answers.default) pairs.push({ asked: k.name, by: '(written answer)', n: k.total.answers.default, part: k.total.answers.default / n });
  }
  pairs.sort((a, b) => b.n - a.n);
  hide($('answered-none'), pairs.length > 0);
  draws.answered(pairs.map((p) => [p.asked + '\n' + p.by, p]));
  flow(pairs.slice(0, 8));
}

let flowed = '';
function flow(pairs) {
  const same = JSON.stringify(pairs.map((p) => [p.asked, p.by, p.n]));
  if (same === flowed) return;
  flowed = same;
  const left = [...new Set(pairs.map((p) => p.asked))], right = [...new Set(pairs.map((p) => p.by))];
  const high = 30 * Math.max(left.length, right.length, 1), most = pairs.length ? pairs[0].n : 1;
  const y = (list, name) => (high * (list.indexOf(name) + 0.5)) / list.length;
  const short = (s) => (s.length > 26 ? s.slice(0, 25) + '…' : s);
  const lines = pairs.map((p) => svg('path', { 'stroke-width': 2 + (14 * p.n) / most, d: `M200 ${y(left, p.asked)}C300 ${y(left, p.asked)} 300 ${y(right, p.by)} 400 ${y(right, p.by)}` }));
  const words = left.map((n) => svg('text', { x: 190, y: y(left, n) + 4, 'text-anchor': 'end' }, short(n)))
    .concat(right.map((n) => svg('text', { x: 410, y: y(right, n) + 4 }, short(n))));
  $('flow').replaceChildren(...(pairs.length ? [svg('svg', { viewBox: `0 0 600 ${high}`, width: 600, 'aria-hidden': 'true' }, ...lines, ...words)] : []));
}

const WINDOW_MS = 15 * 60000;
function drawTimeline() {
  const now = Date.now(), from = now - WINDOW_MS;
  const names = [...moves.keys()].filter((n) => moves.get(n).some((m) => m.ms > from || m.level > 0)).sort().slice(0, 40);
  const rows = [];
  for (const [i, name] of names.entries()) {
    const list = moves.get(name), y = 24 * i;
    rows.push(svg('text', { x: 0, y: y + 15 }, name.length > 24 ? name.slice(0, 23) + '…' : name));
    let was = list[0].before, since = from;
    for (const m of [...list, { ms: now, level: 0 }]) {
      const x = (ms) => 180 + (620 * (Math.max(ms, from) - from)) / WINDOW_MS;
      if (m.ms > from) rows.push(svg('rect', { class: 'l' + was, x: x(since), y: y + 3, height: 16, width: Math.max(x(m.ms) - x(since), 1) }, svg('title', {}, `${name}: level ${was}`)));
      was = m.level;
      since = m.ms;
    }
  }
  if (names.length) {
    for (const minutes of [15, 10, 5, 0]) {
      rows.push(svg('text', { class: 'soft', x: 180 + (620 * (15 - minutes)) / 15, y: 24 * names.length + 14, 'text-anchor': minutes === 0 ? 'end' : 'start' }, minutes ? `${minutes} min ago` : 'now'));
    }
  }
  $('timeline').replaceChildren(...(names.length ? [svg('svg', { viewBox: `0 0 800 ${24 * names.length + 22}`, width: 800, 'aria-hidden': 'true' }, ...rows)] : []));
  const told = events.filter((e) => e.event === 'level');
  hide($('levels-none'), told.length > 0);
  draws.levels(told.slice(-50).reverse().map((e) => [e.key, e.move]));
}

function drawStatus() {
  if (!page) return;
  const names = new Map(page.workers.map((w) => [w.id, w.name]));
  draws.workers(page.workers.map((w) => {
    const states = {};
    for (const s of w.connections) states[s] = (states[s] || 0) + 1;
    return [String(w.id), { ...w, states: Object.entries(states).map(([s, n]) => `${n} ${s}`).join(', ') }];
  }));
  const replicas = [];
  for (const l of page.loops) {
    for (const d of (l.holds && l.holds.desks) || []) {
      for (const r of d.replicas) {
        const state = !r.up ? 'down' : r.differs ? 'differs' : r.paused_us ? 'paused' : r.rest_us ? 'rests' : 'up';
        replicas.push([d.model + '\n' + r.id, { ...r, model: d.model, state, worker: names.get(r.id) || '#' + r.id }]);
      }
    }
  }
  draws.replicas(replicas);
  const kept = page.models.filter((m) => m.cache_entries > 0 || sum((models.get(m.name) || all).total.cache) > 0);
  hide($('cache-none'), kept.length > 0);
  draws.cache(kept.map((m) => {
    const c = (models.get(m.name) || all).total.cache, hits = (c.hit || 0) + (c.stale || 0) + (c.shared || 0);
    return [m.name, { name: m.name, entries: m.cache_entries, bytes: m.cache_bytes, hits: (c.hit || 0) + (c.shared || 0), stale: c.stale || 0, misses: c.miss || 0, part: hits / (hits + (c.miss || 0) || 1) }];
  }));
  const stores = page.loops.filter((l) => l.holds && l.holds.store.state !== 'none');
  hide($('store-none'), stores.length > 0);
  draws.store(stores.map((l) => [String(l.index), { loop: l.index, state: l.holds.store.state, why: l.holds.store.why }]));
  drawExperiments();
  set($('about'), `${page.version}, process ${page.pid}, ${page.phase} for ${lasted(page.uptime_s)}, configuration ${page.configuration.generation}, restarts ${page.generation}`);
}

const histories = new Map(); // by experiment and variant
function drawExperiments() {
  const rows = [], live = new Map(((trials && trials.experiments) || []).map((e) => [e.name, e]));
  for (const e of page.experiments || []) {
    const trial = live.get(e.name);
    for (const v of e.variants) {
      const key = e.name + '\n' + v.name, c = variants.get(key) || {};
      const own = (trial && trial.variants.find((x) => x.name === v.name)) || {}, against = own.against_control || {};
      const state = !v.known ? 'no such model' : !v.fits ? 'unfit' : trial ? trial.status.replace('_', ' ') : 'drawn';
      rows.push([key, { experiment: e.name, variant: v.name, model: v.model, weight: own.weight_ppm === undefined ? v.weight_ppm : own.weight_ppm, requests: v.requests, errors: c.errors || 0, fallbacks: c.fallbacks || 0, p50_us: c.p50_us, p99_us: c.p99_us, state, trial, lift: against.error_rate, slower: against.latency_mean_us, history: histories.get(key) || [] }]);
    }
  }
  hide($('experiments-none'), rows.length > 0);
  draws.experiments(rows);
}
function noteTrials() {
  for (const e of trials.experiments) {
    for (const v of e.variants) {
      const i = v.against_control && v.against_control.error_rate, key = e.name + '\n' + v.name;
      if (!i || ![i.value, i.low, i.high].every(Number.isFinite)) continue;
      const list = histories.get(key) || [];
      list.push(i);
      if (list.length > 180) list.shift();
      histories.set(key, list);
    }
  }
}

let turns = [];
function drawLoops() {
  const p = all.now.process, ms = performance.now();
  draws.loops(p.loops.map((l, i) => {
    const was = turns[i];
    const row = { ...l, index: i, turns: was ? Math.max(0, ((l.turns - was.turns) * 1000) / (ms - was.ms || 1)) : null, answered: page && page.loops[i] ? page.loops[i].answered : undefined };
    turns[i] = { ms, turns: l.turns };
    return [String(i), row];
  }));
}

function drawNow() {
  const p = all.now.process;
  let flight = 0;
  for (const l of p.loops) flight += l.in_flight;
  set($('now-rate'), at < 0 ? '–' : rate(rateOf(all)));
  set($('now-failed'), at < 0 ? '–' : rate(last(all, 'failed')));
  flag($('now-failed'), 'bad', last(all, 'failed') > 0);
  set($('now-p50'), took(Math.round(last(all, 'p50') * 1e3)));
  set($('now-p99'), took(Math.round(last(all, 'p99') * 1e3)));
  set($('now-waiting'), count(all.now.waiting || 0));
  set($('now-flight'), count(flight));
  set($('now-bytes'), size(p.bytes_leased) + ' of ' + size(p.bytes_limit));
  level($('now-level'), p.level);
  set($('now-level-word'), LEVEL_WORDS[p.level]);
}

function fillChoice() {
  const names = [...models.keys()].sort(), select = $('model');
  const have = [...select.options].slice(1).map((o) => o.value);
  if (JSON.stringify(names) === JSON.stringify(have)) return;
  select.replaceChildren(make('option', { value: '' }, 'all models'), ...names.map((n) => make('option', { value: n }, n)));
  if (!models.has(chosen)) chosen = '';
  select.value = chosen;
}

function show() {
  draw('now', drawNow);
  draw('models', () => { fillChoice(); draws.models([...models.values()].map((k) => [k.name, k])); });
  draw('batches', drawBatches);
  draw('answered', drawAnswered);
  draw('loops', drawLoops);
  if (page && (page.experiments || []).length) draw('experiments', drawExperiments);
  for (const c of charts) draw('chart ' + c.id, () => c.draw());
}

function choose(name) {
  chosen = name;
  $('model').value = name;
  for (const c of charts) c.drawn = '';
  if (all.now.process) show();
}

// ---- charts ----------------------------------------------------------------------------------------------

const CHARTS = [
  { id: 'rate', title: 'Requests a second', stacked: true, unit: (v) => rate(v), series: [['model', 'the model', '--blue'], ['fallback', 'another model', '--violet'], ['cache', 'cache', '--teal'], ['default', 'written answer', '--amber'], ['failed', 'failed', '--red']] },
  { id: 'latency', title: 'Latency', unit: (v) => took(Math.round(v * 1e3)), series: [['p50', 'p50', '--teal'], ['p99', 'p99', '--amber']] },
  { id: 'rows', title: 'Rows a batch', unit: (v) => v.toFixed(1), points: true, series: [['rows', 'mean', '--blue']] },
  { id: 'queue', title: 'Rows that wait', unit: (v) => count(Math.round(v)), series: [['waiting', 'waiting', '--violet']] },
];
const charts = [];
Dygraph.PLUGINS = Dygraph.PLUGINS.filter((p) => p !== Dygraph.Plugins.Legend); // the keys are ours; its own are styled in line
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function chart(c) {
  const box = make('div', { className: 'chart' });
  const keys = c.series.map(([, word, colour]) => {
    const i = make('i'), value = make('span');
    i.style.background = `var(${colour})`;
    return { node: make('span', { className: 'key' }, i, word + ' ', value), value };
  });
  const body = make('tbody');
  const rows = make('table', {}, make('caption', {}, c.title), make('thead', {}, make('tr', {}, make('th', { scope: 'col' }, 'Until'), ...c.series.map(([, word]) => make('th', { scope: 'col', className: 'n' }, word)))), body);
  const details = make('details', {}, make('summary', {}, 'As a table'), rows);
  $('charts').append(make('figure', {}, make('figcaption', {}, c.title, ...keys.map((k) => k.node)), box, details));
  box.setAttribute('role', 'img');
  box.setAttribute('aria-label', c.title + ': the same numbers stand in the table below');
  let graph = null, hovered = null;
  const empty = () => { const ms = Date.now(); return [[new Date(ms - SPAN * 1000), ...c.series.map(() => NaN)], [new Date(ms), ...c.series.map(() => NaN)]]; };
  const look = () => ({ colors: c.series.map(([, , colour]) => css(colour)), gridLineColor: css('--line'), axisLineColor: css('--line') });
  const legend = (p) => c.series.forEach(([s], i) => { const v = p < 0 ? NaN : of(chosen).ring[s][p]; set(keys[i].value, Number.isNaN(v) ? '–' : c.unit(v)); });
  const place = (ms) => { for (let i = 0; i < SPAN; i++) if (when[i] === ms) return i; return -1; };
  function table() { // a row every half minute
    if (!details.open) return;
    const out = [];
    for (let i = 0; i < SPAN; i += 30) {
      const p = (at - i + SPAN) % SPAN;
      if (at < 0 || Number.isNaN(when[p])) break;
      out.push(make('tr', {}, make('th', { scope: 'row' }, clock(when[p])), ...c.series.map(([s]) => { const v = of(chosen).ring[s][p]; return make('td', { className: 'n' }, Number.isNaN(v) ? '–' : c.unit(v)); })));
    }
    body.replaceChildren(...out);
  }
  details.addEventListener('toggle', table);
  const self = {
    id: c.id, drawn: '',
    build() {
      graph = new Dygraph(box, empty(), {
        labels: ['time', ...c.series.map(([, word]) => word)], stackedGraph: Boolean(c.stacked), fillGraph: Boolean(c.stacked), fillAlpha: 0.35, strokeWidth: 1.6,
        drawPoints: Boolean(c.points), pointSize: 1.5, legend: 'never', includeZero: true, interactionModel: {}, animatedZooms: false, highlightCircleSize: 3,
        axes: { x: { drawGrid: false, axisLabelFormatter: (d) => clock(d.getTime()).slice(0, 5), pixelsPerLabel: 70 }, y: { axisLabelWidth: 58, axisLabelFormatter: (v) => c.unit(v), pixelsPerLabel: 34 } },
        highlightCallback: (e, ms) => { hovered = ms; legend(place(ms)); },
        unhighlightCallback: () => { hovered = null; legend(at); },
        ...look(),
      });
    },
    draw() {
      if (!graph) return;
      const k = of(chosen), data = [];
      let print = '';
      for (let i = SPAN - 1; i >= 0; i--) {
        const p = (at - i + SPAN) % SPAN;
        if (at < 0 || Number.isNaN(when[p])) continue;
        const row = [new Date(when[p])];
        for (const [s] of c.series) row.push(k.ring[s][p]);
        print += row.slice(1).join();
        data.push(row);
      }
      if (hovered === null) legend(at);
      const flat = /^[0NaN,]*$/.test(print); // nothing has happened in all this time: the line that is drawn is as good
      if (data.length < 2 || (flat && self.drawn === 'flat')) return;
      self.drawn = flat ? 'flat' : 'moves';
      const now = when[at];
      graph.updateOptions({ file: data, dateWindow: [now - SPAN * 1000, now] });
      table();
    },
    dress() { if (graph) graph.updateOptions(look()); },
  };
  return self;
}
for (const c of CHARTS) charts.push(chart(c));
for (const c of charts) draw('build ' + c.id, () => c.build());
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => { for (const c of charts) draw('dress ' + c.id, () => c.dress()); });

// ---- the wire ----------------------------------------------------------------------------------------------

let saidAt = 0, sayLater = 0;
function say(text) { // for ears, too: not more often than every five seconds, the newest word
  clearTimeout(sayLater);
  sayLater = setTimeout(() => { saidAt = Date.now(); set($('said'), text); }, Math.max(0, saidAt + 5000 - Date.now()));
}
function link(state, word) {
  attr($('link'), 'data-state', state);
  set($('link'), word);
}

class Refused extends Error {}

async function request(path, more = {}) {
  const answer = await fetch(path, { ...more, credentials: 'omit', cache: 'no-store', referrerPolicy: 'no-referrer', redirect: 'error', headers: { authorization: 'Bearer ' + token, ...more.headers } });
  if (answer.status === 401 || answer.status === 403) {
    const body = await answer.json().catch(() => ({}));
    throw new Refused(body.error || 'refused');
  }
  return answer;
}

// Server-sent events over fetch: an EventSource cannot show a token. Until the stream ends.
async function follow(path, stop, headers, event) {
  const answer = await request(path, { signal: stop, headers });
  if (!answer.ok) throw new Error('HTTP ' + answer.status);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = '';
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    let end;
    while ((end = text.indexOf('\n\n')) >= 0) {
      const e = { data: '' };
      for (const line of text.slice(0, end).split('\n')) {
        const colon = line.indexOf(': ');
        if (colon > 0) e[line.slice(0, colon)] = line.slice(colon + 2);
      }
      text = text.slice(end + 2);
      if (e.data) event(e);
    }
  }
}

let session = null; // AbortController of what runs
function forget(why) {
  if (session) session.abort();
  session = token = null;
  $('enter').hidden = false;
  $('acts').hidden = true;
  link('off', 'not connected');
  set($('refused'), why || '');
}

async function keep(stop, run) { // again and again, with growing pauses
  for (let pause = 500; !stop.aborted; pause = Math.min(pause * 2, 5000)) {
    const began = Date.now();
    try {
      await run();
    } catch (e) {
      if (stop.aborted) return;
      if (e instanceof Refused) { forget(e.message); $('token').focus(); return; }
    }
    if (stop.aborted) return;
    if ($('link').dataset.state === 'on') say('The connection to the gateway is lost; trying again.');
    link('lost', 'connection lost');
    if (Date.now() - began > 10000) pause = 500;
    await wait(pause);
  }
}

let statusDue = 0;
async function watchStatus(stop) {
  while (!stop.aborted) {
    const until = Date.now() + 5000;
    statusDue = until;
    try {
      const answer = await request('/status', { signal: stop });
      if (answer.ok) page = await answer.json();
      if (trials !== null && (page.experiments || []).length > 0) {
        const live = await request('/v1/experiments', { signal: stop });
        trials = live.ok ? await live.json() : live.status === 404 ? null : trials; // null: this gateway has no such page
        if (trials) noteTrials();
      }
      draw('status', drawStatus);
    } catch (e) { /* /live tells that the connection is lost */ }
    while (!stop.aborted && (Date.now() < statusDue || frozen)) await wait(100);
  }
}

const HIDDEN = new Set(['time', 'level', 'event']);
let eventId = '0.0', eventNumber = 0; // 0.0: all that are kept
function tookEvent(e) {
  let o;
  try { o = JSON.parse(e.data); } catch (x) { return; }
  if (e.id) eventId = e.id;
  const words = Object.entries(o).filter(([k, v]) => !HIDDEN.has(k) && v !== '').map(([k, v]) => `${k} ${v}`).join(', ');
  const ms = Date.parse(o.time), one = { key: String(eventNumber++), ms, level: o.level, event: o.event, words };
  events.push(one);
  if (events.length > EVENTS) events.shift();
  if (o.event === 'level') {
    one.move = { ms, model: o.model, before: o.before, level: o.now, cause: o.cause, ready: o.ready, replicas: o.replicas, share: o.share_ppm };
    if (!moves.has(o.model)) moves.set(o.model, []);
    const list = moves.get(o.model);
    list.push(one.move);
    if (list.length > 100) list.shift();
    if (Date.now() - ms < 5000) say(`${o.model} is at level ${o.now}, ${LEVEL_WORDS[o.now]}: ${why(o.cause)}`);
  }
  draw('timeline', drawTimeline);
  draw('events', () => draws.events(events.slice(-100).reverse().map((x) => [x.key, x])));
  statusDue = Math.min(statusDue, Date.now() + 500);
}

function connect() {
  session = new AbortController();
  const stop = session.signal;
  link('lost', 'connecting');
  keep(stop, () => follow('/live', stop, {}, (e) => {
    if ($('link').dataset.state !== 'on') {
      $('enter').hidden = true;
      $('acts').hidden = false;
      set($('refused'), '');
      link('on', 'live');
      say('Connected.');
    }
    take(JSON.parse(e.data));
  }));
  keep(stop, () => follow('/events', stop, { 'last-event-id': eventId }, tookEvent));
  watchStatus(stop);
}

$('enter').addEventListener('submit', (e) => {
  e.preventDefault();
  if (session) session.abort();
  token = $('token').value.trim();
  $('token').value = '';
  set($('refused'), '');
  if (/^[\x21-\x7e][\x20-\x7e]*$/.test(token)) connect();
  else forget('token: expected printable characters');
});
$('leave').addEventListener('click', () => { forget(''); $('token').focus(); });
$('model').addEventListener('change', () => choose($('model').value));
$('freeze').addEventListener('click', () => {
  frozen = !frozen;
  attr($('freeze'), 'aria-pressed', frozen);
  say(frozen ? 'The view stands still; what comes is still noted.' : 'The view goes on.');
  if (!frozen && all.now.process) { show(); draw('timeline', drawTimeline); }
});
// Nobody looks for a minute: then nobody is asked.
let hiddenAt = 0;
document.addEventListener('visibilitychange', () => {
  clearTimeout(hiddenAt);
  if (document.hidden) hiddenAt = setTimeout(() => { if (session) { session.abort(); session = null; link('lost', 'resting: hidden'); } }, 60000);
  else if (token && !session) connect();
});
setInterval(() => { if (moves.size > 0) draw('timeline', drawTimeline); }, 15000);

// ---- actions -------------------------------------------------------------------------------------------------

// title, fields: nodes; says(): the consequence, of what is chosen; yes: the button's word, or a function of what is chosen.
function ask({ title, fields = [], says, yes, grave, act }) {
  const dialog = $('ask'), button = $('ask-yes');
  set($('ask-h'), title);
  $('ask-more').replaceChildren(...fields);
  const tell = () => { set($('ask-what'), says()); set(button, typeof yes === 'function' ? yes() : yes); };
  tell();
  $('ask-more').onchange = tell;
  set($('ask-error'), '');
  button.className = grave ? 'grave' : '';
  button.disabled = false;
  $('ask-f').onsubmit = async (e) => {
    e.preventDefault();
    button.disabled = true;
    try {
      say(await act());
      dialog.close();
    } catch (x) {
      set($('ask-error'), x.message);
      if (!token) dialog.close();
    }
    button.disabled = false;
    statusDue = 0;
  };
  dialog.showModal();
  (fields.length ? $('ask-more').querySelector('select, input') : $('ask-no')).focus();
}
$('ask-no').addEventListener('click', () => $('ask').close());

async function post(path, body) {
  const answer = await request(path, { method: 'POST', headers: { 'content-type': 'application/json' }, body: body === undefined ? undefined : JSON.stringify(body) });
  const said = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(said.error || 'HTTP ' + answer.status);
  return said;
}

function choice(id, word, options) {
  return [make('label', { htmlFor: id }, word), make('select', { id }, ...options.map(([value, text]) => make('option', { value }, text)))];
}

function askPin(name) { // '': the instance
  const who = name || 'all models without a pin of their own', k = models.get(name), body = name ? { model: name } : {};
  if (name ? k && k.now.pinned : pinnedAll) {
    ask({ title: `Let go of ${who}`, says: () => `${who}: the level follows what is measured again, from now on.`, yes: 'Let go',
      act: async () => { await post('/v1/levels', { ...body, level: null }); pinnedAll = name ? pinnedAll : false; return `${who}: goes by itself again.`; } });
    return;
  }
  const why = make('input', { id: 'pin-why', required: true, maxLength: 160, autocomplete: 'off', pattern: '[^"\\\\]*', title: 'without quotes and backslashes' });
  ask({
    title: `Hold ${who} at a level`, grave: true,
    fields: [...choice('pin-level', 'Level', LEVEL_WORDS.map((w, i) => [i, `${i} ${w}`])), ...choice('pin-for', 'For', [[600, '10 minutes'], [3600, 'an hour'], [28800, '8 hours'], [86400, 'a day']]), make('label', { htmlFor: 'pin-why' }, 'Why (others will ask)'), why],
    says: () => `${who}: ${LEVEL_DOES[$('pin-level').value]} Whatever is measured changes nothing of it for ${$('pin-for').selectedOptions[0].textContent}.`,
    yes: () => `Hold at level ${$('pin-level').value}`,
    act: async () => {
      const n = Number($('pin-level').value);
      const said = await post('/v1/levels', { ...body, level: n, for_s: Number($('pin-for').value), why: why.value.trim() });
      if (!name) pinnedAll = true;
      return `${who}: held at level ${n} until ${clock(said.pin.until_ms)}` + (said.kept ? '.' : ', or until the gateway ends.');
    },
  });
}
let pinnedAll = false;
$('pin-all').addEventListener('click', async () => {
  try {
    const levels = await (await request('/v1/levels')).json();
    pinnedAll = levels.instance.pin !== null;
    askPin('');
  } catch (e) { say(e.message); }
});
const VERBS = { // what becomes of an experiment
  weights: ['Other weight', (v) => `${v.experiment}: ${v.variant} gets ${$('trial-weight').value || '…'} % of those who take part; the control gives or takes the difference. As few of them as can be change their variant.`],
  pause: ['Pause', (v) => `${v.experiment}: everybody gets the control, until it is resumed.`],
  resume: ['Resume', (v) => `${v.experiment}: its variants are drawn again, by the weights that it has.`],
  rollback: ['Roll back', (v) => `${v.experiment}: it ends, and everybody gets the control.`],
  promote: ['Promote this variant', (v) => `${v.experiment}: it ends, and everybody gets ${v.variant}.`],
};
function askTrial(v) {
  const why = make('input', { id: 'trial-why', required: true, maxLength: 160, autocomplete: 'off' });
  const weight = make('input', { id: 'trial-weight', type: 'number', min: 0, max: 100, step: 0.01, value: (v.weight / 1e4).toFixed(2) });
  const verb = () => $('trial-verb').value;
  ask({
    title: `${v.experiment}, ${v.variant}`, grave: true,
    fields: [...choice('trial-verb', 'What', Object.entries(VERBS).map(([k, [word]]) => [k, word])), make('label', { htmlFor: 'trial-weight' }, 'Weight in %'), weight, make('label', { htmlFor: 'trial-why' }, 'Why (others will ask)'), why],
    says: () => { weight.disabled = verb() !== 'weights'; return VERBS[verb()][1](v); },
    yes: () => (verb() === 'weights' ? `Give it ${weight.value || '…'} %` : VERBS[verb()][0]),
    act: async () => {
      const more = verb() === 'weights' ? { weights_ppm: { [v.variant]: Math.round(Number(weight.value) * 1e4) } } : verb() === 'promote' ? { variant: v.variant } : {};
      await post(`/v1/experiments/${encodeURIComponent(v.experiment)}/${verb()}`, { revision: v.trial.revision, why: why.value.trim(), ...more });
      return `${v.experiment}: done.`;
    },
  });
}
$('drain').addEventListener('click', () => ask({
  title: 'Drain this gateway', grave: true, yes: 'Drain and end',
  says: () => 'It tells load balancers that it is not ready, serves for drain_delay, closes its listeners, finishes what runs within drain_timeout, and ends. Nothing here can take that back; another start can.',
  act: async () => { const said = await post('/v1/drain'); return said.already ? 'It drains already.' : `It drains: ends within ${Math.ceil((said.delay_ms + said.timeout_ms) / 1000)} s.`; },
}));
$('token').focus();
})();
