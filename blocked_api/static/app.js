// The page: header, state of the list, and either the list or one subject.
import { whenTokenWanted } from './api.js';
import { BlockList, NO_FILTER } from './block-list.js';
import { useFollowing, useLive } from './live.js';
import { html, useEffect, useRef, useState } from './markup.js';
import { timeZone } from './moments.js';
import { Health, ListState } from './health.js';
import { NewestEvents } from './newest-events.js';
import { useReading } from './reading.js';
import { HourChart } from './hour-chart.js';
import { route, visible } from './subject.js';
import { SubjectPage } from './subject-page.js';
import { TokenDialog } from './token-dialog.js';

// Heartbeat and lag change without any block changing.
const SUMMARY_EVERY_MS = 5_000;

export function App() {
  const [session, setSession] = useState(0);
  const [tokenWanted, setTokenWanted] = useState(false);
  useEffect(() => whenTokenWanted(() => setTokenWanted(true)), []);
  const begin = () => {
    setTokenWanted(false);
    setSession((last) => last + 1);
  };
  return html`
    <${Dashboard} key=${session} />
    ${tokenWanted && html`<${TokenDialog} onToken=${begin} />`}
  `;
}

function Dashboard() {
  const live = useLive();
  const summary = useReading('blocked/summary');
  useFollowing(summary, live, SUMMARY_EVERY_MS);
  const { subject } = useRoute();
  const [view, setView] = useState({ ...NO_FILTER, cursors: [null] });
  const main = useRef(null);
  const skip = (event) => {
    event.preventDefault();
    main.current.focus();
  };
  useEffect(() => {
    document.title = subject ? `${visible(subject.subject)} · Block list` : 'Block list';
  }, [subject]);
  const shown = useRef(subject);
  useEffect(() => {
    if (shown.current === subject) return;
    shown.current = subject;
    main.current.focus({ preventScroll: true });
    scrollTo(0, 0);
  }, [subject]);
  return html`
    <a class="skip" href="#main" onClick=${skip}>Skip to the content</a>
    <header>
      <div class="title">
        <h1><a href="#/">Block list</a></h1>
        <p class="zone">Times in ${timeZone}</p>
      </div>
      <${ListState} live=${live} summary=${summary} />
      <${Health} live=${live} summary=${summary} />
    </header>
    <main id="main" tabindex="-1" ref=${main}>
      ${subject
        ? html`<${SubjectPage} key=${location.hash} subject=${subject} live=${live}
            loginApi=${summary.body?.login_api ?? null} />`
        : html`
          <div class="overview">
            <div class="blocks">
              <${HourChart} summary=${summary} />
              <${BlockList} live=${live} summary=${summary} view=${view} setView=${setView} />
            </div>
            <${NewestEvents} summary=${summary} />
          </div>`}
    </main>
  `;
}

function useRoute() {
  const [page, setPage] = useState(route(location.hash));
  useEffect(() => {
    const follow = () => setPage(route(location.hash));
    addEventListener('hashchange', follow);
    return () => removeEventListener('hashchange', follow);
  }, []);
  return page;
}
