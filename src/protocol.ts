// What is said on the event stream of a dev server, on top of a plain channel: the greeting, reload and css, a failed
// build that stands until it is mended, and the user's own events. README, "Events on the wire", is its reference.

import { type Failure, type PageEvent, type PaintedFailure, RESERVED_TYPES, type Texts } from './events.ts';
import { paintFailure } from './paint.ts';
import { type Channel, type Client, checkType, createChannel } from './sse.ts';

const VERSION = 1;
/** Milliseconds: Firefox takes no less. */
const RETRY = 500;

export interface Protocol extends Pick<Channel, 'connect' | 'on' | 'close'> {
  readonly clients: number;
  /** Those of them who are sent texts. */
  readonly readers: number;
  /** Id of the newest event: what a page made now has heard of. */
  readonly lastId: string;
  /** What the pages are shown of a build that failed. */
  readonly failure: Failure | undefined;
  /**
   * Tells the pages of a change. A failure is over then.
   * @param texts of its stylesheets and pages: waited for, unless something else is to be told
   */
  publish(event: PageEvent, texts?: Promise<Texts | undefined>): void;
  /**
   * Tells the pages, those opened later too, of a build that failed, until the next event is published; `undefined`: it
   * is mended, and nothing has changed.
   */
  fail(failure: Failure | undefined): void;
  /**
   * Sends an event of the user's own.
   * @throws {RangeError} if the type is reserved or no type
   */
  send(type: string, data: unknown): void;
}

/** @param script URL path of the client script, which is in every page: for a template, it stands for all of them. */
export function createProtocol(script: string): Protocol {
  const boot = Date.now().toString(36);
  const channel = createChannel({ boot, retry: RETRY });
  const clients = new Set<Client>();
  /** Types of the user's own events. */
  const types = new Set<string>();
  let failure: Failure | undefined;
  /** As pages are told of it. */
  let shown: PaintedFailure | null = null;
  /** Tells of the change that waits for its texts. */
  let tellNow: ((texts?: Texts) => void) | undefined;

  // An EventSource hears only the types it listens for: it is told of each before the first event of that type comes.
  const hello = (client: Client, id?: string) => {
    client.send('hello', { boot, version: VERSION, types: [...types] }, id === undefined ? {} : { id });
  };

  channel.on('connect', (client) => {
    clients.add(client);
    hello(client, client.missed === 'nothing' ? channel.lastId : undefined);
    // What it missed cannot be known: one reload, and its page is sure to be right.
    if (client.missed === 'unknown') client.send('reload', { paths: [] }, { id: channel.lastId });
    if (shown) client.send('failure', shown);
  });
  channel.on('disconnect', (client) => clients.delete(client));

  const publish = ({ type, paths, gone, templates }: PageEvent, texts?: Texts) => {
    failure = undefined;
    shown = null;
    const data = { paths: templates ? [script] : paths, gone };
    // Memory is for paths: who comes later fetches.
    channel.send(type, data, texts && { now: { data: { ...data, texts }, to: takesTexts } });
  };

  return {
    connect: channel.connect,
    on: channel.on,
    close: () => {
      tellNow?.();
      return channel.close();
    },
    get clients() {
      return channel.clients;
    },
    get readers() {
      return [...clients].filter(takesTexts).length;
    },
    get lastId() {
      return channel.lastId;
    },
    get failure() {
      return failure;
    },
    publish(event, texts) {
      tellNow?.();
      if (!texts) return publish(event);
      const tell = (texts?: Texts) => {
        if (tellNow !== tell) return;
        tellNow = undefined;
        publish(event, texts);
      };
      tellNow = tell;
      texts.then(tell, () => tell());
    },
    fail(next) {
      if (!next && tellNow) return; // the event that waits ends a failure
      tellNow?.();
      if (next === failure) return;
      failure = next;
      shown = next ? withPieces(next) : null;
      for (const client of clients) client.send('failure', shown);
    },
    send(type, data) {
      if ((RESERVED_TYPES as readonly string[]).includes(type)) {
        throw new RangeError(
          `Cannot send an event of type "${type}": that type is live-sse's own. Choose another name`,
        );
      }
      tellNow?.();
      if (!types.has(type)) {
        types.add(checkType(type));
        for (const client of clients) hello(client);
      }
      channel.send(type, data);
    },
  };
}

/** Has it asked for texts? Who may listen from another origin gets no more than by fetching. */
function takesTexts({ req }: Client): boolean {
  return req.headers.origin === undefined && /\?texts(?:&|$)/.test(req.url ?? '');
}

function withPieces(failure: Failure): PaintedFailure {
  const painted = paintFailure(failure);
  return Object.keys(painted).length > 0 ? { ...failure, painted } : failure;
}
