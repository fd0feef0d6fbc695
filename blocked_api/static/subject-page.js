// One user or address: what blocks it now, what happened to it, and the operator's unblock.
import { useNow } from './clock.js';
import { useFollowing } from './live.js';
import { html, useState } from './markup.js';
import { Moment, duration, endOf } from './moments.js';
import { EventWord } from './newest-events.js';
import { Failure } from './notice.js';
import { useReading } from './reading.js';
import { Name, TYPE_WORDS, blocksPath, historyPath } from './subject.js';
import { UnblockDialog } from './unblock-dialog.js';

const POLL_MS = 5_000;

export function SubjectPage({ subject, live, loginApi }) {
  const blocks = useReading(blocksPath(subject));
  const history = useReading(historyPath(subject));
  const pollMs = live.connection === 'live' ? null : POLL_MS;
  useFollowing(blocks, live, pollMs);
  useFollowing(history, live, pollMs);
  const [unblocking, setUnblocking] = useState(false);
  const time = useNow();
  const free = blocks.error?.status === 404;
  const known = free ? [] : (blocks.body?.blocks ?? []);
  const standing = known.filter(({ until }) => endOf(until) > time);
  const loading = blocks.body === undefined && !blocks.error;
  return html`<article class="subject-page">
    <p><a href="#/">← All blocks</a></p>
    <div class="heading">
      <h2><span class="type">${TYPE_WORDS[subject.subject_type]}</span> <${Name} text=${subject.subject} /></h2>
      ${loginApi !== null && standing.length > 0 && html`
        <button type="button" onClick=${() => setUnblocking(true)}>Unblock…</button>`}
    </div>
    ${blocks.error && !free && html`<${Failure} error=${blocks.error} readAgain=${blocks.refreshNow} />`}
    ${loading && html`<p class="empty">Loading…</p>`}
    ${!loading && standing.length === 0 && (free || !blocks.error) && html`<p class="empty">Not blocked now.</p>`}
    ${standing.length > 0 && html`<${Blocks} blocks=${standing} time=${time} />`}
    <${History} reading=${history} time=${time} />
    ${unblocking && html`<${UnblockDialog} subject=${subject} loginApi=${loginApi}
      stillBlocked=${standing.length > 0} onClose=${() => setUnblocking(false)} />`}
  </article>`;
}

function Blocks({ blocks, time }) {
  const last = Math.max(...blocks.map(({ until }) => endOf(until)));
  return html`<section aria-labelledby="blocks-title">
    <p class="remaining">Blocked for <strong>${duration(last - time).replace(/^for /, '')}</strong>${last === Infinity ? '.' : ' more.'}</p>
    <h3 id="blocks-title">What blocks it now</h3>
    <div class="scrolls" tabindex="0" role="group" aria-labelledby="blocks-title">
    <table>
      <caption class="hidden">Blocks in force</caption>
      <thead><tr>
        <th scope="col">Rule</th><th scope="col">Reason</th>
        <th scope="col" class="number">Level</th><th scope="col" class="number">Since</th>
        <th scope="col" class="number">Until</th><th scope="col" class="number">Time left</th>
      </tr></thead>
      <tbody>${blocks.map((block) => html`<tr key=${block.rule}>
        <th scope="row">${block.rule}</th>
        <td><${Name} text=${block.reason} /></td>
        <td class="number">${block.level}</td>
        <td class="number"><${Moment} iso=${block.since} now=${time} /></td>
        <td class="number"><${Moment} iso=${block.until} now=${time} /></td>
        <td class="number">${duration(endOf(block.until) - time)}</td>
      </tr>`)}</tbody>
    </table>
    </div>
  </section>`;
}

function History({ reading, time }) {
  const events = reading.body?.events ?? [];
  return html`<section aria-labelledby="history-title">
    <h3 id="history-title">What happened to it</h3>
    ${reading.error && html`<${Failure} error=${reading.error} readAgain=${reading.refreshNow} />`}
    ${reading.body === undefined && !reading.error && html`<p class="empty">Loading…</p>`}
    ${reading.body && events.length === 0 && html`
      <p class="empty">Nothing that the Blocked API remembers: it knows the last 50,000 changes.</p>`}
    ${events.length > 0 && html`
    <div class="scrolls" tabindex="0" role="group" aria-labelledby="history-title">
    <table>
      <caption class="hidden">Events, newest first</caption>
      <thead><tr>
        <th scope="col" class="number">At</th><th scope="col">Event</th><th scope="col">Rule</th>
        <th scope="col" class="number">Level</th><th scope="col" class="number">Blocked until</th>
      </tr></thead>
      <tbody>${events.map((event) => html`<tr key=${`${event.at} ${event.event} ${event.rule}`}>
        <th scope="row" class="number"><${Moment} iso=${event.at} now=${time} /></th>
        <td><${EventWord} kind=${event.event} /></td>
        <td>${event.rule ?? 'unknown'}</td>
        <td class="number">${event.level ?? '–'}</td>
        <td class="number">${event.rule === null ? '–' : html`<${Moment} iso=${event.blocked_until} now=${time} />`}</td>
      </tr>`)}</tbody>
    </table>
    </div>`}
  </section>`;
}
