// How complete the list is, and how the parts behind it are.
import { now, useNow } from './clock.js';
import { html, useEffect, useRef, useState } from './markup.js';
import { shortWhile } from './moments.js';
import { explain } from './notice.js';

const STATES = {
  complete: ['good', 'Complete', 'All blocks are shown.'],
  refilling: [
    'warn', 'Refilling',
    'Redis was emptied or is new: blocks may be missing for about a minute.',
  ],
  stale: [
    'warn', 'Stale',
    'No detector has reported for 10 s: new blocks may be missing. Look at the Flink job.',
  ],
};
const MARKS = { good: '✓', warn: '!', bad: '✕', wait: '…' };
const LATE_HEARTBEAT_MS = 10_000;

function listState(live, summary, status) {
  if (live.status?.redis === 'down') {
    return ['bad', 'Redis is down', 'No new blocks can be shown. This page tries again by itself.'];
  }
  if (summary.error?.status === 503) return ['bad', 'Not readable', explain(summary.error)[1]];
  if (summary.error?.status === 401) return ['wait', 'Token needed', 'Enter it to see the list.'];
  if (summary.error) return ['bad', 'Not readable', explain(summary.error).join(' ')];
  if (status === undefined) return ['wait', 'Loading', 'The state of the list is being read.'];
  const [mood, word, words] = STATES[status] ?? ['warn', status, ''];
  if (live.connection !== 'lost') return [mood, word, words];
  const lost = 'Live updates are interrupted: this page asks every 5 s instead.';
  return [mood === 'good' ? 'warn' : mood, word, `${words} ${lost}`];
}

// Spoken when it changes, and only then.
export function ListState({ live, summary }) {
  const status = useLatest(live.status?.status, summary.body?.status);
  const [mood, word, words] = listState(live, summary, status);
  return html`<p class=${`state ${mood}`} role="status">
    <span class="mark" aria-hidden="true">${MARKS[mood]}</span>
    <span><strong>${word}.</strong> ${words}</span>
  </p>`;
}

// Of two sources of one fact, what either said last.
function useLatest(first, second) {
  const [latest, setLatest] = useState(undefined);
  useEffect(() => { if (first !== undefined) setLatest(first); }, [first]);
  useEffect(() => { if (second !== undefined) setLatest(second); }, [second]);
  return latest;
}

export function Health({ live, summary }) {
  const time = useNow();
  const readAt = useRef(time);
  useEffect(() => { readAt.current = now(); }, [summary.body]);
  const { body } = summary;
  const count = (number) => (body ? number.toLocaleString() : '–');
  return html`<dl class="figures" aria-label="Blocked now, and health">
    <${Figure} name="Users blocked" value=${count(body?.users)} />
    <${Figure} name="Addresses blocked" value=${count(body?.ips)} />
    <${Heartbeat} age=${body?.detector.heartbeat_age_ms} since=${Math.max(0, time - readAt.current)} />
    <${Figure} name="Detector’s lag" value=${body ? lag(body.detector.lag_ms) : '–'} />
    <${Redis} live=${live} summary=${summary} />
    <${Figure} name="Live updates" ...${CONNECTIONS[live.connection]} />
  </dl>`;
}

const CONNECTIONS = {
  connecting: { value: 'connecting' },
  live: { value: 'on' },
  lost: { value: 'reconnecting', mood: 'warn' },
};

const lag = (ms) => (ms === null ? 'unknown' : shortWhile(ms));

function Heartbeat({ age, since }) {
  const name = 'Detector reported';
  if (age === undefined) return html`<${Figure} name=${name} value="–" />`;
  if (age === null) return html`<${Figure} name=${name} value="never" mood="warn" />`;
  const ms = age + since;
  const late = ms >= LATE_HEARTBEAT_MS;
  const words = ms < 1_000 ? 'now' : `${shortWhile(Math.floor(ms / 1_000) * 1_000).replace('.0', '')} ago`;
  return html`<${Figure} name=${name} value=${late ? `${words}, late` : words}
    mood=${late ? 'warn' : ''} />`;
}

function Redis({ live, summary }) {
  if (live.status?.redis === 'down') return html`<${Figure} name="Redis" value="down" mood="bad" />`;
  if (summary.error?.status === 503) {
    return html`<${Figure} name="Redis" value="no list" mood="bad" />`;
  }
  if (summary.error) return html`<${Figure} name="Redis" value="unknown" mood="warn" />`;
  return html`<${Figure} name="Redis" value=${summary.body ? 'ok' : '–'} />`;
}

function Figure({ name, value, mood = '' }) {
  return html`<div class=${mood}><dt>${name}</dt><dd>${value}</dd></div>`;
}
