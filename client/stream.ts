// One event stream for all pages of a browser: the stream itself, and a page's share of it. The SharedWorker that holds
// the stream is worker.ts; what a page does with an event is index.ts.

/** One event of the stream, its data as it came. */
export interface StreamEvent {
  readonly type: string;
  readonly data: string;
  /** '' is none. */
  readonly id: string;
}

export interface Stream {
  /** Connects now if it is not connected: the time to try may be far off. */
  wake(): void;
  close(): void;
}

/** What a page tells the worker: where it stands, that it is there, that it goes, that the moment is good to connect. */
export type Word = { readonly join: string } | 'ping' | 'leave' | 'wake';

/** Milliseconds of silence after which a connection is taken for dead. The server sends something every 10 s. */
const SILENCE = 24_000;
/** Milliseconds until the next try after an answer that was no stream. */
const REFUSED = 1000;
/** Milliseconds between two words to the worker, and how many may stay unanswered before the page helps itself. */
const BEAT = 400;
const PATIENCE = 3;
/** How many more, while the worker may have yet to start. */
const START = 5;

/** EventSource's ready states. */
const OPEN = 1;
const CLOSED = 2;

/** Is the event `id` not yet part of what stands at `cursor`? Ids are `<boot>-<n>`; those of another boot always are. */
export function isNews(id: string, cursor: string): boolean {
  const [boot, n] = splitId(id);
  const [cursorBoot, cursorN] = splitId(cursor);
  // As a pair: one number of both would be beyond what a number holds exactly.
  return boot !== cursorBoot || n > cursorN;
}

/** Does the event `id` come after the event `other`? The boots of a server are in the order of time. */
export function isLater(id: string, other: string): boolean {
  return isNews(id, other) && splitId(id)[0] >= splitId(other)[0];
}

/** The boot, with the dash behind it, and the number in an id. */
export function splitId(id: string): readonly [boot: string, n: number] {
  return [id.replace(/[^-]*$/, ''), +id.replace(/.*-/, '')];
}

/**
 * Keeps an event stream open until it is closed, whatever becomes of the server. `cursor` gives the id from which on
 * events are wanted.
 */
export function openStream(url: string, cursor: () => string, onEvent: (event: StreamEvent) => void): Stream {
  let source: EventSource | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let heard = 0;

  const connectIn = (ms: number) => {
    clearTimeout(timer);
    timer = setTimeout(connect, ms);
  };
  // A connection that is cut without a word shows as silence only: the server sends something every 10 s.
  const hear = () => {
    heard = Date.now();
    connectIn(SILENCE);
  };
  const connect = () => {
    source?.close();
    const own = new EventSource(`${url}?texts&lastEventId=${cursor()}`);
    source = own;
    hear();
    const receive = ({ type, data, lastEventId }: MessageEvent<string>) => {
      if (source !== own) return;
      hear();
      // The user's own types: the server names each before its first event.
      if (type === 'hello') listen(JSON.parse(data).types);
      // Those without an id of their own come with the one before.
      onEvent({ type, data, id: /^(ping|failure)$/.test(type) ? '' : lastEventId });
    };
    const listen = (types: readonly string[]) => {
      for (const type of types) own.addEventListener(type, receive); // a second time does nothing
    };
    listen(['failure', 'css', 'reload', 'hello', 'ping']);
    own.onopen = hear;
    own.onerror = () => {
      // Given up for good: after an answer that was no stream, and in Firefox after some of its own kinds of failure.
      if (source !== own || own.readyState !== CLOSED) return;
      source = undefined;
      connectIn(REFUSED);
    };
  };

  connect();
  return {
    wake: () => {
      // Waiting for the next try, or asleep for so long that the connection may be dead.
      const isOpen = source?.readyState === OPEN;
      if (!isOpen || Date.now() - heard > SILENCE / 2) connect();
    },
    close: () => {
      clearTimeout(timer);
      source?.close();
      source = undefined;
    },
  };
}

/**
 * Takes part in the stream at `base` from the event `id` on, by the worker if there is one that answers, and by a
 * stream of the page's own, while it is visible, if not.
 * @param worker name of the SharedWorker; pages of another version do not get to this one's
 */
export function join(base: string, id: string, worker: string, onEvent: (event: StreamEvent) => void): void {
  let cursor = id;
  let port: MessagePort | undefined;
  let direct: Stream | undefined;
  let beat: ReturnType<typeof setInterval> | undefined;
  let unanswered = 0;

  const take = (event: StreamEvent) => {
    if (event.type === 'hello') return greet(event);
    if (event.id) {
      if (!isNews(event.id, cursor)) return;
      cursor = event.id;
    }
    if (event.type !== 'ping') onEvent(event);
  };

  const greet = ({ data, id: newest }: StreamEvent) => {
    // If the server has started again since the page was made, it sends a reload next: nobody knows what changed.
    cursor ||= newest || `${JSON.parse(data).boot}-0`;
  };

  const say = (word: Word) => port?.postMessage(word);

  const employ = () => {
    port?.close();
    try {
      const shared = new SharedWorker(`${base}/worker.js`, worker);
      shared.onerror = dismiss;
      port = shared.port;
      port.onmessage = ({ data }: MessageEvent<readonly StreamEvent[]>) => {
        unanswered = 0;
        direct?.close();
        direct = undefined;
        for (const event of data) take(event);
      };
      say({ join: cursor });
    } catch {
      dismiss(); // not in this browser, or not allowed on this page
    }
  };

  const dismiss = () => {
    port = undefined;
    helpItself();
  };

  const helpItself = () => {
    if (!document.hidden) direct ??= openStream(base, () => cursor, take);
  };

  const tick = () => {
    if (document.hidden) return;
    if (port) {
      // Counted in beats and not in time: a page that was busy itself has made no beats meanwhile.
      if (++unanswered > PATIENCE) helpItself();
      // A worker whose process has died says nothing for ever, but a new one can be had.
      if (unanswered % 8 === 4) employ();
      say('ping');
    } else helpItself();
  };

  const enter = () => {
    unanswered = -START;
    employ();
    clearInterval(beat);
    beat = setInterval(tick, BEAT);
  };

  // A page that is put into the back/forward cache must hold nothing that is open.
  const leave = () => {
    clearInterval(beat);
    say('leave');
    port?.close();
    port = undefined;
    direct?.close();
    direct = undefined;
  };

  const wake = () => {
    say('wake');
    direct?.wake();
  };

  addEventListener('pagehide', leave);
  addEventListener('pageshow', ({ persisted }) => {
    if (!persisted) return;
    enter();
    wake();
  });
  for (const type of ['focus', 'online']) addEventListener(type, wake);
  document.addEventListener('visibilitychange', () => {
    if (!document.hidden) return tick();
    direct?.close();
    direct = undefined;
  });
  enter();
}
