// The SharedWorker that holds the one event stream of a browser and passes each event on to all pages. It knows nothing
// of what the events mean; stream.ts has the page's side.

import { isNews, openStream, type Stream, type StreamEvent, splitId, type Word } from './stream.ts';

/** Events that are remembered for pages that come later. */
const HISTORY = 500;

const url = location.href.replace(/\/worker\.js.*/, '');
const ports = new Set<MessagePort>();
/** Everything that came after the event `start`, all of one boot of the server. */
let history: StreamEvent[] = [];
let start = '';
let newest = '';
let stream: Stream | undefined;
/** A failed build, which stands until something is published: the server tells it once to each stream. */
let failure: StreamEvent | undefined;

addEventListener('connect', (event) => {
  if (!(event instanceof MessageEvent)) return;
  for (const port of event.ports) {
    port.onmessage = ({ data }: MessageEvent<Word>) => hear(port, data);
    // Only some engines tell that a page is gone without a word; in the others a port nobody listens to stays.
    port.addEventListener('close', () => remove(port));
  }
});

function hear(port: MessagePort, word: Word): void {
  if (word === 'leave') remove(port);
  else if (word === 'wake') stream?.wake();
  else if (word !== 'ping') admit(port, word.join);
  // WebKit may start a worker anew in another process, at the ports it had: who gets no answer says again where it stands.
  else if (ports.has(port)) port.postMessage([]);
}

function admit(port: MessagePort, cursor: string): void {
  ports.add(port);
  if (!stream || !knows(cursor)) openAt(cursor);
  const missed = history.filter(({ id }) => cursor !== '' && isNews(id, cursor));
  port.postMessage(failure ? [...missed, failure] : missed);
}

/** Is everything that came after this event remembered? */
function knows(cursor: string): boolean {
  return cursor === '' || (splitId(cursor)[0] === splitId(start)[0] && !isNews(start, cursor));
}

/** Takes the stream up at an event: the server sends again what came later, and each page leaves out what it had. */
function openAt(cursor: string): void {
  stream?.close();
  history = [];
  failure = undefined;
  start = cursor;
  newest = cursor;
  stream = openStream(url, () => newest, pass);
}

function pass(event: StreamEvent): void {
  if (event.id) remember(event);
  if (event.type === 'ping') return;
  if (event.type === 'failure') failure = event.data === 'null' ? undefined : event;
  else if (/^(css|reload)$/.test(event.type)) failure = undefined;
  for (const port of ports) port.postMessage([event]);
}

function remember(event: StreamEvent): void {
  const { id } = event;
  // Another boot: the past is that of a server which is gone.
  if (splitId(id)[0] !== splitId(start)[0]) {
    history = [];
    start = id;
  } else if (event.type !== 'hello' && isNews(id, newest)) {
    // Texts, the last in its data, are for those who hear of them at once.
    const isOurs = /^(css|reload)$/.test(event.type);
    const data = isOurs ? event.data.replace(/,"texts":.*/s, '}') : event.data;
    history.push({ ...event, data });
  }
  newest = id;
  if (history.length > HISTORY) start = history.shift()?.id ?? start;
}

function remove(port: MessagePort): void {
  ports.delete(port);
  if (ports.size > 0) return;
  stream?.close();
  stream = undefined;
}
