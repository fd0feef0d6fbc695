// The live list: search, filters, pages, and seconds that run down.
import { useNow } from './clock.js';
import { useFollowing } from './live.js';
import { html, useEffect, useRef, useState } from './markup.js';
import { Moment, duration, endOf } from './moments.js';
import { Failure } from './notice.js';
import { useReading } from './reading.js';
import { SubjectLink, TYPE_WORDS, keyOf, subjectHash } from './subject.js';

const PAGE = 50;
const TYPED_MS = 250;
const FRESH_MS = 5_000;
const POLL_MS = 5_000;

export const NO_FILTER = { q: '', subject_type: '', rule: '', level: '' };

// `view` is the filter and `cursors`: where each page up to the shown one begins.
export function BlockList({ live, summary, view, setView }) {
  const { cursors, ...filter } = view;
  const list = useReading(pathOf(filter, cursors.at(-1)));
  useFollowing(list, live, live.connection === 'live' ? null : POLL_MS);
  useEffect(() => live.changes.listen((change) => {
    if (change) list.update((body) => withChange(body, change));
  }), [live.changes]);
  const time = useNow();
  const all = list.body?.subjects ?? [];
  const rows = all.filter(({ blocked_until: until }) => endOf(until) > time);
  const ended = all.length - rows.length;
  useEffect(() => { if (ended > 0) list.refresh(); }, [ended]);
  const refusedCursor = cursors.length > 1 && list.error?.status >= 400 && list.error.status < 500;
  useEffect(() => {
    // A page that is no more: on to the first one.
    if (refusedCursor) setView((last) => ({ ...last, cursors: [null] }));
  }, [refusedCursor]);

  // What was asked for is spoken once it is there, and not what changes by itself afterwards.
  const [spoken, setSpoken] = useState('');
  useEffect(() => {
    if (list.body) setSpoken(rows.length === 1 ? '1 block shown.' : `${rows.length} blocks shown.`);
  }, [list.path]);

  const setFilter = (change) => setView((last) => ({ ...last, ...change, cursors: [null] }));
  const next = () => setView((last) => ({ ...last, cursors: [...last.cursors, list.body.next] }));
  const previous = () => setView((last) => ({ ...last, cursors: last.cursors.slice(0, -1) }));
  const filtered = Object.values(filter).some((value) => value !== '');
  return html`<section class="list" aria-labelledby="list-title" aria-busy=${list.busy}>
    <h2 id="list-title">Blocked now</h2>
    <${Filters} filter=${filter} setFilter=${setFilter}
      rules=${Object.keys(summary.body?.by_rule ?? {}).sort()} />
    <p class="hidden" aria-live="polite">${spoken}</p>
    ${list.error && !refusedCursor && html`<${Failure} error=${list.error} readAgain=${list.refreshNow}>
      ${rows.length > 0 && 'Below is what was read last.'}<//>`}
    ${list.body === undefined && !list.error && html`<p class="empty">Loading…</p>`}
    ${list.body && rows.length === 0 && !list.error && (filtered
      ? html`<${NoMatch} filter=${filter} clear=${() => setFilter(NO_FILTER)} />`
      : html`<p class="empty">${cursors.length > 1 ? 'Nothing more on this page.' : 'Nobody is blocked.'}</p>`)}
    ${rows.length > 0 && html`<${Rows} rows=${rows} time=${time} old=${list.error !== null} />`}
    <${Pages} first=${(cursors.length - 1) * PAGE + 1} shown=${rows.length} filtered=${filtered}
      total=${summary.body ? summary.body.users + summary.body.ips : null}
      next=${list.body?.next && !list.busy ? next : null}
      previous=${cursors.length > 1 && !list.busy ? previous : null} />
  </section>`;
}

function pathOf(filter, cursor) {
  const asked = Object.entries({ ...filter, q: filter.q.trim(), cursor: cursor ?? '' });
  const given = asked.filter(([, value]) => value !== '');
  return `blocked/subjects?${new URLSearchParams([...given, ['limit', PAGE]])}`;
}

// The rows shown follow at once; what is new comes with the next reading, which knows the order.
function withChange(body, { added, changed, removed }) {
  const shown = new Map(body.subjects.map((entry) => [keyOf(entry), entry]));
  for (const entry of [...added, ...changed]) {
    if (shown.has(keyOf(entry))) shown.set(keyOf(entry), entry);
  }
  removed.forEach((entry) => shown.delete(keyOf(entry)));
  return { ...body, subjects: [...shown.values()] };
}

function Filters({ filter, setFilter, rules }) {
  const [typed, setTyped] = useState(filter.q);
  const timer = useRef(null);
  useEffect(() => { setTyped(filter.q); }, [filter.q]);
  useEffect(() => () => clearTimeout(timer.current), []);
  const search = (event) => {
    const q = event.currentTarget.value;
    setTyped(q);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => setFilter({ q }), TYPED_MS);
  };
  const choose = (name) => (event) => setFilter({ [name]: event.currentTarget.value });
  return html`<search><form class="filters" aria-label="Filter the list"
      onSubmit=${(event) => event.preventDefault()}>
    <label class="search">Name or address
      <input type="search" value=${typed} onInput=${search} maxlength="1024"
        placeholder="any part of it" autocomplete="off" spellcheck=${false} />
    </label>
    <label>Type
      <select value=${filter.subject_type} onChange=${choose('subject_type')}>
        <option value="">all</option>
        <option value="user">users</option>
        <option value="ip">addresses</option>
      </select>
    </label>
    <label>Rule
      <select value=${filter.rule} onChange=${choose('rule')}>
        <option value="">all</option>
        ${withChosen(rules, filter.rule).map((rule) => html`<option key=${rule} value=${rule}>${rule}</option>`)}
      </select>
    </label>
    <label class="level">Level
      <input type="number" min="1" step="1" inputmode="numeric" placeholder="all" value=${filter.level}
        onInput=${(event) => event.currentTarget.checkValidity() && choose('level')(event)} />
    </label>
  </form></search>`;
}

// A rule whose last block has ended stays on the menu while it is chosen.
const withChosen = (rules, chosen) => (
  chosen === '' || rules.includes(chosen) ? rules : [...rules, chosen].sort()
);

function NoMatch({ filter, clear }) {
  const name = filter.q.trim();
  const type = /^[\d.]+$|:/.test(name) ? 'ip' : 'user';
  const subject = { subject_type: filter.subject_type || type, subject: name };
  return html`<div class="empty">
    <p>No block matches.</p>
    <p><button type="button" onClick=${clear}>Show all</button></p>
    ${name && html`<p><a href=${subjectHash(subject)}>Look for the past of this ${TYPE_WORDS[subject.subject_type]}</a></p>`}
  </div>`;
}

// The roles are what these elements are anyway; display: grid on a phone would take them away.
function Rows({ rows, time, old }) {
  return html`<table class=${`cards${old ? ' old' : ''}`} role="table">
    <caption class="hidden">Who is blocked now, the newest block first</caption>
    <thead role="rowgroup"><tr role="row">
      <th role="columnheader" scope="col">Name or address</th>
      <th role="columnheader" scope="col">Type</th>
      <th role="columnheader" scope="col">Rule</th>
      <th role="columnheader" scope="col" class="number">Level</th>
      <th role="columnheader" scope="col" class="number">Since</th>
      <th role="columnheader" scope="col" class="number">Time left</th>
    </tr></thead>
    <tbody role="rowgroup">${rows.map((row) => html`
      <tr role="row" key=${keyOf(row)} class=${time - Date.parse(row.since) < FRESH_MS ? 'fresh' : ''}>
        <th role="rowheader" scope="row" class="who"><${SubjectLink} of=${row} /></th>
        <td role="cell" class="type">${TYPE_WORDS[row.subject_type]}</td>
        <td role="cell" class="rule">${row.rule}</td>
        <td role="cell" class="number level"><span class="label">level </span>${row.level}</td>
        <td role="cell" class="number since"><span class="label">since </span><${Moment} iso=${row.since} now=${time} /></td>
        <td role="cell" class="number left">${duration(endOf(row.blocked_until) - time)}</td>
      </tr>`)}
    </tbody>
  </table>`;
}

function Pages({ first, shown, total, filtered, next, previous }) {
  const range = shown === 0 ? '' : `${first.toLocaleString()}–${(first + shown - 1).toLocaleString()}`;
  const of = filtered || total === null ? '' : ` of ${total.toLocaleString()}`;
  return html`<nav class="pages" aria-label="Pages of the list">
    <button type="button" disabled=${previous === null} onClick=${previous}>Previous</button>
    <span>${range && range + of}</span>
    <button type="button" disabled=${next === null} onClick=${next}>Next</button>
  </nav>`;
}
