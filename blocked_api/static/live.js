// The stream of changes, shared by all that is on the page.
import { followStream } from './event-stream.js';
import { useEffect, useMemo, useState } from './markup.js';

// `{connection, status, changes}`: connection is `connecting`, `live` or `lost`; status the last
// `status` event or null; `changes.listen(listener)` returns how to stop it. A listener is called
// with a change, or with null when anything may have changed.
export function useLive() {
  const [connection, setConnection] = useState('connecting');
  const [status, setStatus] = useState(null);
  const changes = useMemo(() => new Changes(), []);
  useEffect(() => {
    let abort = null;
    const callbacks = {
      onConnection: (state) => {
        setConnection(state);
        if (state === 'lost') setStatus(null);
        // What changed between the first reading and now was told to nobody.
        if (state === 'live') changes.tell(null);
      },
      onEvent: (type, document) => {
        if (type === 'status') setStatus(document);
        else if (type === 'change') changes.tell(document);
        else if (type === 'reset') changes.tell(null);
      },
    };
    // A browser has six connections to a server, all tabs together: hidden ones give theirs back.
    const followWhileSeen = () => {
      abort?.abort();
      if (document.hidden) return;
      abort = new AbortController();
      followStream('blocked/stream', { ...callbacks, signal: abort.signal });
    };
    followWhileSeen();
    document.addEventListener('visibilitychange', followWhileSeen);
    return () => {
      document.removeEventListener('visibilitychange', followWhileSeen);
      abort?.abort();
    };
  }, []);
  return { connection, status, changes };
}

class Changes {
  listeners = new Set();

  listen(listener) {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  tell(change) {
    const empty = change && ![change.added, change.changed, change.removed].some((all) => all.length);
    if (!empty) this.listeners.forEach((listener) => listener(change));
  }
}

// Reads again whenever something changed, and at intervals while no stream tells.
export function useFollowing(reading, live, pollMs) {
  useEffect(() => live.changes.listen(() => reading.refresh()), [live.changes]);
  useEffect(() => {
    if (pollMs === null) return undefined;
    const timer = setInterval(() => reading.refresh(), pollMs);
    return () => clearInterval(timer);
  }, [pollMs]);
}
