// The last 20 things that happened to blocks.
import { useNow } from './clock.js';
import { html } from './markup.js';
import { Moment } from './moments.js';
import { SubjectLink, TYPE_WORDS, keyOf } from './subject.js';

const MARKS = { blocked: '●', unblocked: '○', expired: '◌' };

export function EventWord({ kind }) {
  return html`<span class=${`event ${kind}`}>
    <span class="mark" aria-hidden="true">${MARKS[kind] ?? '·'}</span>${kind}
  </span>`;
}

// Of a block that nobody remembers any more rule and level are null.
const details = ({ rule, level }) => (rule === null ? [] : [rule, `level ${level}`]);

export function NewestEvents({ summary }) {
  const time = useNow();
  const events = summary.body?.newest ?? [];
  return html`<section class="events" aria-labelledby="events-title">
    <h2 id="events-title">Newest events</h2>
    ${summary.body && events.length === 0 && html`<p class="quiet">Nothing has happened yet.</p>`}
    <ol>${events.map((event) => html`
      <li key=${`${event.at} ${event.event} ${event.rule} ${keyOf(event)}`}>
        <${SubjectLink} of=${event} />
        <${Moment} iso=${event.at} now=${time} />
        <span class="what"><${EventWord} kind=${event.event} />
          ${' '}· ${[TYPE_WORDS[event.subject_type], ...details(event)].join(' · ')}</span>
      </li>`)}
    </ol>
  </section>`;
}
