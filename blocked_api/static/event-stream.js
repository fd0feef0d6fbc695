// Server-sent events read with fetch(), which can send a token where EventSource cannot.
import { open } from './api.js';

const LONGEST_RETRY_MS = 30_000;
// The server writes at least a comment every 15 s: three missed ones are a dead connection.
const SILENCE_MS = 45_000;

// Follows the HTML standard's parsing of text/event-stream; `feed` takes text cut anywhere.
export class EventParser {
  constructor(tell, tellRetry) {
    this.tell = tell;
    this.tellRetry = tellRetry;
    this.rest = '';
    this.begun = false;
    this.lastEventId = '';
    this.clear();
  }

  clear() {
    this.type = '';
    this.data = [];
  }

  feed(text) {
    this.rest += text;
    if (!this.begun && this.rest) {
      this.begun = true;
      this.rest = this.rest.replace(/^\ufeff/, '');
    }
    // A \r at the end may be half of a \r\n.
    const lines = this.rest.split(/\r\n|\n|\r(?!$)/);
    this.rest = lines.pop();
    lines.forEach((line) => this.line(line));
  }

  line(line) {
    if (line === '') {
      if (this.data.length) {
        this.tell({
          type: this.type || 'message', data: this.data.join('\n'), id: this.lastEventId,
        });
      }
      this.clear();
      return;
    }
    const colon = line.indexOf(':');
    if (colon === 0) return;
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
    if (name === 'event') this.type = value;
    else if (name === 'data') this.data.push(value);
    else if (name === 'id' && !value.includes('\0')) this.lastEventId = value;
    else if (name === 'retry' && /^\d+$/.test(value)) this.tellRetry(Number(value));
  }
}

// Follows until `signal` aborts; connects again, from the last event on, with growing pauses.
// `onEvent(type, document)`; `onConnection('live' | 'lost', error | null)`; a 401 ends it.
export async function followStream(path, { signal, onEvent, onConnection }) {
  let lastEventId = '';
  let retryMs = 1_000;
  let failures = 0;
  while (!signal.aborted) {
    let failure = null;
    try {
      const headers = { Accept: 'text/event-stream' };
      if (lastEventId) headers['Last-Event-ID'] = lastEventId;
      const connection = new AbortController();
      const end = () => connection.abort();
      signal.addEventListener('abort', end);
      let silence = setTimeout(end, SILENCE_MS);
      try {
        const response = await open(path, { headers, signal: connection.signal });
        const parser = new EventParser(({ type, data, id }) => {
          failures = 0;
          lastEventId = id;
          const document = JSON.parse(data);
          if (type === 'reset') lastEventId = parser.lastEventId = document.version;
          onEvent(type, document);
        }, (ms) => { retryMs = ms; });
        parser.lastEventId = lastEventId;
        onConnection('live', null);
        const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
        for (;;) {
          const { done, value } = await reader.read();
          if (done) break;
          clearTimeout(silence);
          silence = setTimeout(end, SILENCE_MS);
          parser.feed(value);
        }
      } finally {
        clearTimeout(silence);
        signal.removeEventListener('abort', end);
        connection.abort();
      }
    } catch (error) {
      failure = error;
    }
    if (signal.aborted) return;
    onConnection('lost', failure);
    if (failure?.status === 401) return;
    failures += 1;
    const backoffMs = Math.min(LONGEST_RETRY_MS, retryMs * 2 ** (failures - 1));
    const waitMs = Math.max(failure?.retryAfterMs ?? 0, backoffMs) * (1 + Math.random() / 4);
    await new Promise((resume) => {
      const timer = setTimeout(resume, waitMs);
      signal.addEventListener('abort', () => { clearTimeout(timer); resume(); }, { once: true });
    });
  }
}
