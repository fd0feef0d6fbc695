// Reads one address now and again: refreshed on demand, gently, and again after a failure.
import { ApiError, read } from './api.js';
import { useEffect, useRef, useState } from './markup.js';

const LEAST_MS = 1_000;
const LONGEST_RETRY_MS = 30_000;

// At most one read a second and at most half of the time, never two at once. A hidden page
// reads nothing until it is seen.
export class Reading {
  constructor(path, tell) {
    this.path = path;
    this.tell = tell;
    this.abort = new AbortController();
    this.busy = false;
    this.wanted = false;
    this.earliest = 0;
    this.failures = 0;
    this.timer = null;
    this.seen = () => this.wanted && this.run();
    document.addEventListener('visibilitychange', this.seen);
    this.run(true);
  }

  refresh() {
    this.wanted = true;
    if (!this.busy && this.timer === null) this.schedule();
  }

  // A person asks: without waiting.
  refreshNow() {
    this.wanted = true;
    this.earliest = 0;
    clearTimeout(this.timer);
    this.timer = null;
    if (!this.busy) this.run();
  }

  close() {
    this.abort.abort();
    clearTimeout(this.timer);
    document.removeEventListener('visibilitychange', this.seen);
  }

  schedule() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      this.timer = null;
      this.run();
    }, Math.max(0, this.earliest - performance.now()));
  }

  async run(first = false) {
    if (this.busy || (document.hidden && !first)) return;
    clearTimeout(this.timer);
    this.timer = null;
    this.busy = true;
    this.wanted = false;
    const began = performance.now();
    try {
      const body = await read(this.path, this.abort.signal);
      this.failures = 0;
      this.after(began);
      this.tell({ path: this.path, body, error: null });
    } catch (error) {
      if (this.abort.signal.aborted) return;
      this.failures += 1;
      this.after(began);
      if (!(error instanceof ApiError)) throw error;
      // What is asked wrongly stays wrong; all else may pass.
      if (error.status === 0 || error.status >= 500 || error.status === 429) this.retry(error);
      this.tell({ path: this.path, error });
    }
  }

  after(began) {
    this.busy = false;
    const end = performance.now();
    this.earliest = Math.max(began + LEAST_MS, end + (end - began));
    if (this.wanted) this.schedule();
  }

  retry(error) {
    const backoffMs = Math.min(LONGEST_RETRY_MS, LEAST_MS * 2 ** (this.failures - 1));
    this.earliest = performance.now() + Math.max(error.retryAfterMs ?? 0, backoffMs);
    this.wanted = true;
    this.schedule();
  }
}

// The last answer of `path`, kept while a newer one is read or fails: `{body, error, path, busy,
// refresh, refreshNow, update}`. `body` is undefined until the first; `path` is the one it is of.
export function useReading(path) {
  const [state, setState] = useState({ path: null, error: null });
  const reading = useRef(null);
  useEffect(() => {
    reading.current = new Reading(path, (told) => setState((last) => ({ ...last, ...told })));
    return () => reading.current.close();
  }, [path]);
  return {
    ...state,
    busy: state.path !== path,
    refresh: () => reading.current?.refresh(),
    refreshNow: () => reading.current?.refreshNow(),
    update: (change) => setState((last) => (
      last.body === undefined ? last : { ...last, body: change(last.body) }
    )),
  };
}
