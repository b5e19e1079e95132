import { createHook } from 'node:async_hooks';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import * as http2 from 'node:http2';
import { type AddressInfo, connect as connectSocket } from 'node:net';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Channel, type ChannelOptions, type Client, createChannel } from '../src/sse.ts';
import { get, openStream, raw, until, within } from './harness.ts';

interface Served extends AsyncDisposable {
  readonly channel: Channel;
  readonly server: Server;
  readonly port: number;
  readonly origin: string;
  readonly url: string;
}

/** A channel on a server of its own; `before` runs ahead of connect(). */
async function serve(
  options: ChannelOptions = {},
  before: (req: IncomingMessage, res: ServerResponse) => void = () => {},
): Promise<Served> {
  const channel = createChannel({ boot: 'b', ...options });
  const server = createServer((req, res) => {
    before(req, res);
    channel.connect(req, res);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const origin = `http://127.0.0.1:${port}`;
  return {
    channel,
    server,
    port,
    origin,
    url: `${origin}/events`,
    async [Symbol.asyncDispose]() {
      await channel.close();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

const GET = 'GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n';
/** Its answer comes without chunks, so that what is received is what was sent. */
const GET_1_0 = 'GET /events HTTP/1.0\r\n\r\n';

const body = (received: string) => received.slice(received.indexOf('\r\n\r\n') + 4);

/** The body of a stream up to and with a sentinel event, which is left out, as is the first block. */
async function wire(served: Served, act: (channel: Channel) => void): Promise<string> {
  using client = raw(served.port, GET_1_0);
  await client.match(/retry: 500\n/);
  act(served.channel);
  served.channel.send('sentinel', '');
  await client.match(/event: sentinel\nid: .*\ndata: \n\n$/);
  return body(client.received())
    .replace(/^.*?\n\n/s, '')
    .replace(/event: sentinel\n.*$/s, '');
}

const resumed = (served: Served, id: string) => openStream(served.url, { 'last-event-id': id });

const clientsAre = (served: Served, count: number, ms?: number) =>
  until(`${count} clients`, () => served.channel.clients === count, ms);

// What goes over the wire

test('connect() sends head, reconnection time and place at once, and nothing else', async () => {
  await using served = await serve();
  using client = raw(served.port, GET);
  await client.match(/retry: 500\nid: b-0\n\n\r\n/, 1000);
  const [head = '', ...rest] = client.received().split('\r\n\r\n');
  assert.equal(head.replace(/^Date: .*$/m, 'Date: now').split('\r\n'), [
    'HTTP/1.1 200 OK',
    'Cache-Control: no-store, no-transform',
    'Content-Type: text/event-stream',
    'X-Accel-Buffering: no',
    'Date: now',
    'Connection: keep-alive',
    'Keep-Alive: timeout=5',
    'Transfer-Encoding: chunked',
  ]);
  assert.is(rest.join('\r\n\r\n'), '14\r\nretry: 500\nid: b-0\n\n\r\n');
});

/** What came in chunks, which have to be whole; Node.js 26 makes one of what is written at one go. */
function joinChunks(text: string): string {
  let rest = Buffer.from(text);
  let joined = '';
  while (rest.length > 0) {
    const [line = '', size = ''] = /^([\da-f]+)\r\n/.exec(rest.toString('latin1', 0, 20)) ?? [];
    const end = line.length + Number.parseInt(size, 16);
    assert.is(rest.toString('latin1', end, end + 2), '\r\n');
    joined += rest.toString('utf8', line.length, end);
    rest = rest.subarray(end + 2);
  }
  return joined;
}

test('send() gives everybody the same, whatever stands between: chunks, none, and who writes in between', async () => {
  let passed = '';
  await using served = await serve({}, ({ url = '' }, res) => {
    if (!url.endsWith('?wrapped')) return;
    const { write } = res;
    res.write = (chunk: unknown, ...rest: readonly unknown[]) => {
      passed += String(chunk);
      return Boolean(Reflect.apply(write, res, [chunk, ...rest]));
    };
  });
  using chunked = raw(served.port, GET);
  using plain = raw(served.port, GET_1_0);
  using wrapped = raw(served.port, GET.replace('events', 'events?wrapped'));
  const all = [chunked, plain, wrapped];
  await Promise.all(all.map((client) => client.match(/retry: 500\n/)));
  const sent: string[] = [];
  // Alone, two at one go, and larger than a socket takes at once.
  for (const texts of [['é'], ['first', 'second'], ['x'.repeat(15_000), 'y'.repeat(100_000)], ['last']]) {
    for (const text of texts) sent.push(`id: ${served.channel.send(undefined, text)}\ndata: ${text}\n\n`);
    const end = `data: ${texts.at(-1)}\n\n`;
    await Promise.all(all.map((client) => until('the event', () => client.received().includes(end))));
  }
  const greeting = 'retry: 500\nid: b-0\n\n';
  assert.is(joinChunks(body(chunked.received())), greeting + sent.join(''));
  assert.is(joinChunks(body(wrapped.received())), greeting + sent.join(''));
  assert.is(body(plain.received()), greeting + sent.join(''));
  assert.is(passed, greeting + sent.join(''));
});

test('send() writes the fields event, id and data', async () => {
  await using served = await serve();
  const sent = await wire(served, (channel) => {
    assert.is(channel.send('css', { paths: ['/css/site.css'] }), 'b-1');
    assert.is(channel.send(undefined, 'text', { id: 'mine' }), 'mine');
  });
  assert.is(sent, 'event: css\nid: b-1\ndata: {"paths":["/css/site.css"]}\n\n' + 'id: mine\ndata: text\n\n');
});

test('send() tells some of what is `now`, and remembers the data', async () => {
  await using served = await serve();
  using other = await openStream(served.url, { 'x-kind': 'other' });
  const sent = await wire(served, (channel) => {
    const to = ({ req }: Client) => req.headers['x-kind'] === undefined;
    assert.is(channel.send('css', 'old', { now: { data: { text: 'new' }, to } }), 'b-1');
  });
  assert.is(sent, 'event: css\nid: b-1\ndata: {"text":"new"}\n\n');
  assert.is((await other.next('css')).data, 'old');
  using late = await resumed(served, 'b-0');
  assert.is((await late.next('css')).data, 'old');
});

const texts: [string, unknown, string][] = [
  ['text', 'hello', 'hello'],
  ['nothing', undefined, ''],
  ['empty text', '', ''],
  ['LF', 'a\nb', 'a\nb'],
  ['CRLF as one line break', 'a\r\nb', 'a\nb'],
  ['CR as a line break', 'a\rb', 'a\nb'],
  ['line breaks at the ends', '\na\r\r\n', '\na\n\n'],
  ['NUL', 'a\0b', 'a\0b'],
  ['emoji and other scripts', '😀 这是消息 é', '😀 这是消息 é'],
  ['spaces at the ends', '  a ', '  a '],
  ['a byte order mark', '\uFEFFa', '\uFEFFa'],
  ['fields', 'x\n\nevent: forged\r\rid: 1\n\nretry: 1', 'x\n\nevent: forged\n\nid: 1\n\nretry: 1'],
  ['null', null, 'null'],
  ['a number', 1.5, '1.5'],
  ['false', false, 'false'],
  ['a date', new Date(0), '"1970-01-01T00:00:00.000Z"'],
  ['an object with every line break', { text: 'a\r\nb\rc\nd\0😀' }, '{"text":"a\\r\\nb\\rc\\nd\\u0000😀"}'],
  ['a list', ['a\r', { b: '\n' }], '["a\\r",{"b":"\\n"}]'],
];

for (const [name, data, expected] of texts) {
  test(`send() of ${name} arrives`, async () => {
    await using served = await serve();
    using client = await openStream(served.url);
    served.channel.send('x', data);
    assert.equal(await client.next('x'), { type: 'x', id: 'b-1', data: expected });
    served.channel.send('sentinel', '');
    await client.next('sentinel');
    assert.is(client.events.length, 2);
  });
}

test('send() of JSON is what was sent', async () => {
  await using served = await serve();
  using client = await openStream(served.url);
  const sent = { text: '\r\n\r\n\n\n\0\u2028\u2029\uFEFF😀这\u0001"\\', list: [1, null, '\r'] };
  served.channel.send('x', sent);
  assert.equal(JSON.parse((await client.next('x')).data), sent);
});

const circular: Record<string, unknown> = {};
circular.self = circular;

const refusals: [string, (channel: Channel) => void, ErrorConstructor, RegExp][] = [
  ['an empty type', (c) => c.send('', 1), RangeError, /event type ""/],
  ['a type with a space', (c) => c.send('a b', 1), RangeError, /event type "a b"/],
  ['a type with LF', (c) => c.send('a\ndata: x', 1), RangeError, /event type "a\\ndata: x"/],
  ['a type that ends with LF', (c) => c.send('a\n', 1), RangeError, /event type "a\\n"/],
  ['a type in another script', (c) => c.send('é', 1), RangeError, /event type "é"/],
  ['the type error', (c) => c.send('error', 1), RangeError, /EventSource has an event of that name/],
  ['the type open', (c) => c.send('open', 1), RangeError, /EventSource has an event of that name/],
  ['an empty id', (c) => c.send('a', 1, { id: '' }), RangeError, /event id ""/],
  ['an id with CR', (c) => c.send('a', 1, { id: 'a\rdata: x' }), RangeError, /event id "a\\rdata: x"/],
  ['an id with LF', (c) => c.send('a', 1, { id: 'a\n' }), RangeError, /event id "a\\n"/],
  ['an id with NUL', (c) => c.send('a', 1, { id: '\0' }), RangeError, /event id "\\u0000"/],
  ['an id with a space at its end', (c) => c.send('a', 1, { id: 'a ' }), RangeError, /event id "a "/],
  ['an id of 257 characters', (c) => c.send('a', 1, { id: 'a'.repeat(257) }), RangeError, /event id/],
  ['a function', (c) => c.send('a', () => 1), TypeError, /Cannot send a function/],
  ['a symbol', (c) => c.send('a', Symbol('x')), TypeError, /Cannot send a symbol/],
  ['a bigint', (c) => c.send('a', 1n), TypeError, /BigInt/],
  ['a circle', (c) => c.send('a', circular), TypeError, /circular/],
  ['a negative retry', (c) => c.retry(-1), RangeError, /retry/],
  ['a retry that is no number', (c) => c.retry(Number.NaN), RangeError, /retry/],
];

for (const [name, act, kind, message] of refusals) {
  test(`send() and retry() refuse ${name} and count nothing`, async () => {
    await using served = await serve();
    const sent = await wire(served, (channel) => {
      assert.throws(
        () => act(channel),
        (error: unknown) => error instanceof kind && message.test(error.message),
      );
    });
    assert.is(sent, '');
    assert.is(served.channel.lastId, 'b-1', 'the sentinel is the first event');
  });
}

const wrongOptions: [string, ChannelOptions, RegExp][] = [
  ['retry', { retry: -1 }, /option retry .* -1/],
  ['keepAlive', { keepAlive: 1.5 }, /option keepAlive .* 1.5/],
  ['idleTimeout', { idleTimeout: Number.POSITIVE_INFINITY }, /option idleTimeout/],
  ['history', { history: -5 }, /option history.events/],
  ['stalled', { stalled: { bytes: 1, ms: 2 ** 31 } }, /option stalled.ms/],
  ['boot', { boot: 'a\n' }, /event id/],
  ['a CORS origin with a path', { cors: ['http://a.example/'] }, /cors has "http:\/\/a.example\/"/],
  ['a CORS origin without a scheme', { cors: ['a.example'] }, /cors has "a.example"/],
  ['all origins with credentials', { cors: { origins: ['*'], credentials: true } }, /"\*" with credentials/],
];

for (const [name, options, message] of wrongOptions) {
  test(`createChannel() refuses ${name}`, () => assert.throws(() => createChannel(options), message));
}

test('send() of 1 MB arrives whole', async () => {
  await using served = await serve();
  using client = await openStream(served.url);
  const text = `${'0123456789abcde\n'.repeat(65_536)}😀`;
  served.channel.send('big', text);
  assert.ok((await client.next('big')).data === text);
  const json = { text: '\r\n😀'.repeat(150_000) };
  served.channel.send('big', json);
  assert.ok((await client.next('big')).data === JSON.stringify(json));
});

test('send() 1,000 times arrives in order', async () => {
  await using served = await serve();
  using client = await openStream(served.url);
  const expected = Array.from({ length: 1000 }, (_, i) => ({ type: 'n', id: `b-${i + 1}`, data: String(i) }));
  for (const { data } of expected) served.channel.send('n', data);
  await until('1,000 events', () => client.events.length === 1000);
  assert.equal(client.events, expected);
});

test('send() encodes an event once for all clients', async () => {
  await using served = await serve();
  const clients = await Promise.all(Array.from({ length: 20 }, () => openStream(served.url)));
  let encoded = 0;
  served.channel.send('x', { toJSON: () => ++encoded });
  for (const client of clients) assert.is((await client.next('x')).data, '1');
  using late = await resumed(served, 'b-0');
  assert.is((await late.next('x')).data, '1');
  assert.is(encoded, 1);
  for (const client of clients) client[Symbol.dispose]();
});

test('send() from within toJSON() keeps the ids in order', async () => {
  await using served = await serve();
  using client = await openStream(served.url);
  served.channel.send('outer', { toJSON: () => served.channel.send('inner', '') });
  await client.next('outer');
  assert.equal(
    client.events.map(({ type, id }) => [type, id]),
    [
      ['inner', 'b-1'],
      ['outer', 'b-2'],
    ],
  );
});

test('send() without a client and after close() is harmless', async () => {
  const channel = createChannel({ boot: 'b' });
  assert.is(channel.send('x', 1), 'b-1');
  assert.is(channel.lastId, 'b-1');
  await channel.close();
  assert.is(channel.send('x', 1), 'b-1');
  channel.retry(5);
  channel.end();
  assert.is(channel.clients, 0);
});

test('the default boot tells two starts apart', async () => {
  const first = createChannel();
  await new Promise((resolve) => setTimeout(resolve, 2));
  assert.is.not(createChannel().lastId, first.lastId);
  assert.match(first.lastId, /^[0-9a-z]+-0$/);
});

// Methods and protocols

const methods: [string, number, string | undefined][] = [
  ['OPTIONS', 204, 'GET, HEAD, OPTIONS'],
  ['POST', 405, 'GET, HEAD, OPTIONS'],
  ['PUT', 405, 'GET, HEAD, OPTIONS'],
  ['DELETE', 405, 'GET, HEAD, OPTIONS'],
  ['PATCH', 405, 'GET, HEAD, OPTIONS'],
  ['TRACE', 405, 'GET, HEAD, OPTIONS'],
];

for (const [method, status, allow] of methods) {
  test(`connect() answers ${method} with ${status} and opens no stream`, async () => {
    await using served = await serve();
    let connects = 0;
    served.channel.on('connect', () => connects++);
    const answer = await get(served.origin, '/events', { method });
    assert.is(answer.status, status);
    assert.is(answer.headers.allow, allow);
    assert.is(answer.text, '');
    assert.is(connects, 0);
  });
}

test('connect() answers HEAD with the head of a stream and no body, and the connection lives on', async () => {
  await using served = await serve();
  using client = raw(served.port, GET.replace('GET', 'HEAD'));
  await client.match(/\r\n\r\n/);
  client.socket.write(GET.replace('GET', 'HEAD'));
  const [, first, second] = await client.match(/^(HTTP.*?\r\n\r\n)(HTTP.*?\r\n\r\n)$/s);
  for (const head of [first, second]) {
    assert.match(head ?? '', /^HTTP\/1.1 200 OK\r\n.*Content-Type: text\/event-stream\r\n/s);
  }
  assert.is(served.channel.clients, 0);
});

for (const keepAlive of ['', 'Connection: keep-alive\r\n']) {
  test(`connect() gives HTTP/1.0 ${keepAlive && 'with keep-alive '}a stream without chunks`, async () => {
    await using served = await serve();
    using client = raw(served.port, GET_1_0.replace('\r\n\r\n', `\r\n${keepAlive}\r\n`));
    await client.match(/retry/);
    served.channel.send('x', 'y');
    await client.match(/data: y/);
    assert.is(body(client.received()), 'retry: 500\nid: b-0\n\nevent: x\nid: b-1\ndata: y\n\n');
    assert.match(client.received(), /\r\nConnection: close\r\n/);
    assert.not.match(client.received(), /chunked/i);
    served.channel.end();
    await client.end();
  });
}

test('connect() compresses nothing for a client that accepts it', async () => {
  await using served = await serve();
  using client = await openStream(served.url, { 'accept-encoding': 'gzip, deflate, br, zstd' });
  served.channel.send('x', 'plain');
  assert.is((await client.next('x')).data, 'plain');
  assert.is(client.headers['content-encoding'], undefined);
});

test('connect() keeps the headers that are set, and adds those of `headers`', async () => {
  await using served = await serve(
    { headers: (req) => ({ 'X-Path': String(req.url), 'X-Accel-Buffering': 'yes' }) },
    (_req, res) => {
      res.setHeader('Cross-Origin-Resource-Policy', 'same-origin');
      res.setHeader('X-Content-Type-Options', 'nosniff');
    },
  );
  using client = await openStream(served.url);
  assert.is(client.headers['cross-origin-resource-policy'], 'same-origin');
  assert.is(client.headers['x-content-type-options'], 'nosniff');
  assert.is(client.headers['x-path'], '/events');
  assert.is(client.headers['x-accel-buffering'], 'yes');
  assert.is(client.headers['content-type'], 'text/event-stream');
});

test('connect() works as a handler of a router, without its object and with more arguments', async () => {
  const channel = createChannel();
  const handlers = [channel.connect];
  let nexts = 0;
  const server = createServer((req, res) => {
    for (const handler of handlers) handler(req, res, () => nexts++, 'more');
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  using client = await openStream(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
  channel.send('x', 1);
  await client.next('x');
  assert.is(nexts, 0);
  await channel.close();
  server.closeAllConnections();
  server.close();
});

test('connect() works over HTTP/2', async () => {
  await using channel = createChannel({ boot: 'b' });
  const server = http2.createServer((req, res) => void channel.connect(req, res));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const session = http2.connect(origin);
  const open = (headers: http2.OutgoingHttpHeaders) => {
    const stream = session.request({ ':path': '/events?lastEventId=b-0', ...headers });
    const client = { stream, status: 0, headers: {} as http2.IncomingHttpHeaders, text: '', closed: false };
    stream.setEncoding('utf8');
    stream.on('response', (head) => {
      client.status = Number(head[':status']);
      client.headers = head;
    });
    stream.on('data', (chunk: string) => {
      client.text += chunk;
    });
    stream.on('close', () => {
      client.closed = true;
    });
    return client;
  };
  const first = open({ origin });
  await until('the first bytes', () => first.text.includes('retry: 500'));
  assert.is(first.headers['content-type'], 'text/event-stream');
  assert.is(first.headers.connection, undefined);
  channel.send('x', 'y');
  const second = open({});
  await until('the event', () => first.text.includes('data: y') && second.text.includes('data: y'));
  assert.is(first.text, 'retry: 500\nid: b-0\n\nevent: x\nid: b-1\ndata: y\n\n');
  assert.is(second.text, 'retry: 500\n\nevent: x\nid: b-1\ndata: y\n\n');
  const refused = open({ origin: 'http://evil.example' });
  await until('the refusal', () => refused.status === 403);
  assert.is(channel.clients, 2);
  first.stream.close(http2.constants.NGHTTP2_CANCEL);
  await until('one client', () => channel.clients === 1);
  channel.end();
  await until('the end', () => second.closed);
  const back = open({});
  await until('204', () => back.status === 204);
  session.close();
  await new Promise<void>((resolve) => server.close(() => resolve()));
});

// Who may listen

const EVIL = 'http://evil.example';
const FRIEND = 'http://friend.example:3000';
const listed = { cors: [FRIEND] };

const origins: [string, ChannelOptions, string | undefined, number, Record<string, string | undefined>][] = [
  ['no Origin', {}, undefined, 200, { vary: undefined }],
  ['its own Origin', {}, 'own', 200, { vary: undefined }],
  ['another Origin', {}, EVIL, 403, { vary: undefined }],
  ['null', {}, 'null', 403, {}],
  ['an empty Origin', {}, '', 403, {}],
  ['no Origin with cors', listed, undefined, 200, { vary: 'Origin' }],
  ['its own Origin with cors', listed, 'own', 200, { vary: 'Origin' }],
  ['a listed Origin', listed, FRIEND, 200, { 'access-control-allow-origin': FRIEND, vary: 'Origin' }],
  ['an Origin not listed', listed, EVIL, 403, { vary: 'Origin' }],
  ['a part of a listed Origin', listed, 'http://friend.example', 403, {}],
  ['more than a listed Origin', listed, `${FRIEND}0`, 403, {}],
  ['null with cors', listed, 'null', 403, { vary: 'Origin' }],
  [
    'a listed Origin with credentials',
    { cors: { origins: [FRIEND], credentials: true } },
    FRIEND,
    200,
    { 'access-control-allow-origin': FRIEND, 'access-control-allow-credentials': 'true', vary: 'Origin' },
  ],
  ['any Origin with true', { cors: true }, EVIL, 200, { 'access-control-allow-origin': '*' }],
  ['any Origin with *', { cors: ['*'] }, EVIL, 200, { 'access-control-allow-origin': '*' }],
  ['null with true', { cors: true }, 'null', 403, {}],
  ['another Origin with false', { cors: false }, EVIL, 403, {}],
];

for (const [name, options, header, status, expected] of origins) {
  test(`connect() for ${name} is ${status}`, async () => {
    await using served = await serve(options);
    const origin = header === 'own' ? served.origin : header;
    using client = await openStream(served.url, origin === undefined ? {} : { origin });
    const wanted = {
      'access-control-allow-origin': undefined,
      'access-control-allow-credentials': undefined,
      ...expected,
    };
    assert.is(client.status, status);
    for (const [key, value] of Object.entries(wanted)) assert.is(client.headers[key], value, key);
    assert.is(served.channel.clients, status === 200 ? 1 : 0);
  });
}

test('connect() answers a preflight of a listed origin, and 403 to that of another', async () => {
  await using served = await serve(listed);
  const ask = (origin: string) =>
    get(served.origin, '/events', {
      method: 'OPTIONS',
      headers: { origin, 'access-control-request-method': 'GET' },
    });
  const { status, headers } = await ask(FRIEND);
  assert.is(status, 204);
  assert.is(headers['access-control-allow-origin'], FRIEND);
  assert.is(headers['access-control-allow-headers'], 'Last-Event-ID');
  const refused = await ask(EVIL);
  assert.is(refused.status, 403);
  assert.is(refused.headers['access-control-allow-headers'], undefined);
});

test('connect() leaves the decision to whoever has set Access-Control-Allow-Origin', async () => {
  await using served = await serve({}, (_req, res) => res.setHeader('Access-Control-Allow-Origin', FRIEND));
  using client = await openStream(served.url, { origin: FRIEND });
  assert.is(client.status, 200);
  assert.is(client.headers['access-control-allow-origin'], FRIEND);
});

// Coming back

interface Seen {
  readonly missed: Client['missed'] | undefined;
  readonly events: readonly (string | undefined)[];
}

/** What a client that comes with these headers is told, up to a sentinel. */
async function back(served: Served, headers: Record<string, string>, query = ''): Promise<Seen> {
  let missed: Client['missed'] | undefined;
  const undo = served.channel.on('connect', (client) => {
    missed = client.missed;
  });
  using client = await openStream(served.url + query, headers);
  undo();
  assert.is(client.status, 200);
  served.channel.send('sentinel', '', { id: `sentinel-${Math.random()}` });
  await client.next('sentinel');
  const events = client.events.filter(({ type }) => type === 'x').map(({ id, data }) => `${id}=${data}`);
  return { missed, events };
}

const returns: [string, Record<string, string>, string, Seen][] = [
  ['no id', {}, '', { missed: 'nothing', events: [] }],
  ['the newest id', { 'last-event-id': 'b-3' }, '', { missed: 'nothing', events: [] }],
  ['an older id', { 'last-event-id': 'b-1' }, '', { missed: 'sent', events: ['b-2=2', 'b-3=3'] }],
  [
    'the id before the first',
    { 'last-event-id': 'b-0' },
    '',
    { missed: 'sent', events: ['b-1=1', 'b-2=2', 'b-3=3'] },
  ],
  ['an older id in the query', {}, '?lastEventId=b-2', { missed: 'sent', events: ['b-3=3'] }],
  ['more in the query', {}, '?a=1&lastEventId=b%2D2&b', { missed: 'sent', events: ['b-3=3'] }],
  [
    'both: the header wins',
    { 'last-event-id': 'b-2' },
    '?lastEventId=b-1',
    { missed: 'sent', events: ['b-3=3'] },
  ],
  ['an empty query', {}, '?lastEventId=', { missed: 'nothing', events: [] }],
  ['an id of another boot', { 'last-event-id': 'a-3' }, '', { missed: 'unknown', events: [] }],
  ['an id of the future', { 'last-event-id': 'b-4' }, '', { missed: 'unknown', events: [] }],
  ['nonsense', { 'last-event-id': '../\u00ff\u00fe%00' }, '', { missed: 'unknown', events: [] }],
  ['__proto__', { 'last-event-id': '__proto__' }, '', { missed: 'unknown', events: [] }],
  ['a number beyond', { 'last-event-id': `b-${'9'.repeat(400)}` }, '', { missed: 'unknown', events: [] }],
  ['a negative number', { 'last-event-id': 'b--1' }, '', { missed: 'unknown', events: [] }],
  ['a nonsense query', {}, '?lastEventId=%zz%00%ff', { missed: 'unknown', events: [] }],
];

for (const [name, headers, query, expected] of returns) {
  test(`connect() with ${name}: missed ${expected.missed}`, async () => {
    await using served = await serve();
    for (const n of [1, 2, 3]) served.channel.send('x', n);
    assert.equal(await back(served, headers, query), expected);
  });
}

test('connect() with an id too old: missed unknown', async () => {
  await using served = await serve({ history: 2 });
  for (const n of [1, 2, 3, 4]) served.channel.send('x', n);
  assert.equal(await back(served, { 'last-event-id': 'b-1' }), { missed: 'unknown', events: [] });
});

test('connect() with the id just before the history: all of it', async () => {
  await using served = await serve({ history: 2 });
  for (const n of [1, 2, 3, 4]) served.channel.send('x', n);
  assert.equal(await back(served, { 'last-event-id': 'b-2' }), {
    missed: 'sent',
    events: ['b-3=3', 'b-4=4'],
  });
});

test('history is bounded in bytes', async () => {
  await using served = await serve({ history: { events: 1000, bytes: 1000 } });
  for (const n of [1, 2, 3, 4, 5]) served.channel.send('x', String(n).repeat(300));
  assert.is((await back(served, { 'last-event-id': 'b-1' })).missed, 'unknown');
  served.channel.send('x', 'y'.repeat(2000));
  assert.equal(await back(served, { 'last-event-id': 'b-5' }), { missed: 'unknown', events: [] });
});

test('history of nothing still knows the newest id', async () => {
  await using served = await serve({ history: 0 });
  served.channel.send('x', 1);
  served.channel.send('x', 2);
  assert.is((await back(served, { 'last-event-id': 'b-2' })).missed, 'nothing');
  assert.is((await back(served, { 'last-event-id': 'b-2' })).missed, 'unknown', 'a sentinel came');
});

test('an event with an id of its own can be resumed from', async () => {
  await using served = await serve();
  const ids = ['first', '订单 №2 é', 'b-7', '3'];
  for (const id of ids) served.channel.send('x', '', { id });
  for (const [i, id] of ids.entries()) {
    const header = Buffer.from(id).toString('latin1'); // browsers send the bytes of UTF-8
    const expected = ids.slice(i + 1).map((later) => `${later}=`);
    const seen = await back(served, { 'last-event-id': header });
    assert.equal(seen.events, expected, id);
    const query = await back(served, {}, `?lastEventId=${encodeURIComponent(id)}`);
    assert.equal(query.events, expected, id);
  }
});

test('a client that never heard an event knows its place', async () => {
  await using served = await serve();
  served.channel.send('x', 'before');
  using client = raw(served.port, GET_1_0);
  const [, id = ''] = await client.match(/\nid: (.*)\n\n$/);
  client.socket.destroy();
  await clientsAre(served, 0);
  served.channel.send('x', 'meanwhile');
  assert.equal(await back(served, { 'last-event-id': id }), { missed: 'sent', events: ['b-2=meanwhile'] });
});

test('a client whose id is unknown is told a new one, so that it is unknown once', async () => {
  await using served = await serve();
  served.channel.send('x', 1);
  using client = raw(served.port, GET_1_0.replace('\r\n\r\n', '\r\nLast-Event-ID: other-5\r\n\r\n'));
  const [, id = ''] = await client.match(/retry: 500\nid: (.*)\n\n$/);
  assert.equal(await back(served, { 'last-event-id': id }), { missed: 'nothing', events: [] });
});

test('a client that is cut off before its missed events keeps its id', async () => {
  await using served = await serve();
  served.channel.send('x', 1);
  using client = raw(served.port, GET_1_0.replace('\r\n\r\n', '\r\nLast-Event-ID: b-0\r\n\r\n'));
  await client.match(/data: 1/);
  assert.is(body(client.received()), 'retry: 500\n\nevent: x\nid: b-1\ndata: 1\n\n');
});

// Hooks, and single clients

test('on() hears of clients that come and go, until undone', async () => {
  await using served = await serve();
  const heard: string[] = [];
  const note = (what: string) => (client: Client) =>
    heard.push(`${what} ${client.req.url} ${served.channel.clients}`);
  const undo = [served.channel.on('connect', note('+')), served.channel.on('disconnect', note('-'))];
  using first = await openStream(`${served.origin}/1`);
  using second = await openStream(`${served.origin}/2`);
  first[Symbol.dispose]();
  await clientsAre(served, 1);
  for (const stop of undo) stop();
  second[Symbol.dispose]();
  await clientsAre(served, 0);
  assert.equal(heard, ['+ /1 1', '+ /2 2', '- /1 1']);
});

test('what a connect listener sends to its client comes first, then what was missed, then what it sends to all', async () => {
  await using served = await serve();
  served.channel.send('x', 'missed');
  served.channel.on('connect', (client) => {
    served.channel.send('count', served.channel.clients);
    client.send('hello', { missed: client.missed });
  });
  using client = await resumed(served, 'b-0');
  await client.next('count');
  assert.equal(client.events, [
    { type: 'hello', data: '{"missed":"sent"}' },
    { type: 'x', id: 'b-1', data: 'missed' },
    { type: 'count', id: 'b-2', data: '1' },
  ]);
});

test('a disconnect listener that sends does not change the order of events for others', async () => {
  await using served = await serve({ stalled: { bytes: 0, ms: 30_000 } });
  served.channel.on('disconnect', () => served.channel.send('left', ''));
  using stuck = raw(served.port, GET);
  stuck.socket.pause();
  await clientsAre(served, 1);
  using other = await openStream(served.url);
  for (let i = 0; served.channel.clients === 2; i++) {
    assert.ok(i < 1000, 'the client that does not read is cut off');
    served.channel.send('big', 'x'.repeat(100_000));
    const newest = served.channel.lastId;
    await until('the event', () => other.events.some(({ id }) => id === newest));
  }
  served.channel.send('sentinel', '');
  await other.next('sentinel');
  const numbers = other.events.map(({ id }) => Number(id?.slice(2)));
  assert.equal(
    numbers,
    [...numbers].sort((a, b) => a - b),
  );
  await other.next('left');
});

test('a connect listener that throws leaves a client that works', async () => {
  const channel = createChannel();
  const errors: unknown[] = [];
  const undo = channel.on('connect', () => {
    throw new Error('of the listener');
  });
  const server = createServer((req, res) => {
    try {
      channel.connect(req, res);
    } catch (error) {
      errors.push(error);
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  using client = await openStream(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
  undo();
  channel.send('x', 1);
  await client.next('x');
  assert.is(errors.length, 1);
  await channel.close();
  server.closeAllConnections();
  server.close();
});

test('Client.send() reaches one client, is not remembered, and has an id only if given one', async () => {
  await using served = await serve();
  const clients: Client[] = [];
  served.channel.on('connect', (client) => clients.push(client));
  using first = await openStream(served.url);
  using second = await openStream(served.url);
  clients[0]?.send('only', 'first');
  clients[0]?.send(undefined, 'first', { id: 'own' });
  served.channel.send('all', '');
  await Promise.all([first.next('all'), second.next('all')]);
  assert.equal(first.events, [
    { type: 'only', data: 'first' },
    { type: 'message', id: 'own', data: 'first' },
    { type: 'all', id: 'b-1', data: '' },
  ]);
  assert.equal(second.events, [{ type: 'all', id: 'b-1', data: '' }]);
  assert.throws(() => clients[0]?.send('a b', 1), RangeError);
});

test('Client.end() ends one stream, after what was sent; then it is harmless', async () => {
  await using served = await serve();
  const clients: Client[] = [];
  served.channel.on('connect', (client) => clients.push(client));
  using first = await openStream(served.url);
  using second = await openStream(served.url);
  clients[0]?.send('last', 'words');
  clients[0]?.end();
  clients[0]?.end();
  clients[0]?.send('too', 'late');
  assert.is(served.channel.clients, 1);
  await until('the end', () => first.closed());
  assert.equal(first.events, [{ type: 'last', data: 'words' }]);
  served.channel.send('x', 1);
  await second.next('x');
});

test('retry() reaches clients there are and clients to come', async () => {
  await using served = await serve({ retry: 700 });
  using first = raw(served.port, GET_1_0);
  await first.match(/retry: 700\nid: b-0\n\n$/);
  served.channel.retry(1234);
  await first.match(/id: b-0\n\nretry: 1234\n\n$/);
  using second = raw(served.port, GET_1_0);
  await second.match(/\r\n\r\nretry: 1234\nid: b-0\n\n$/);
});

// Time

/** Timers that src/sse.ts has set and not cleared, while the block lasts. */
function watchTimers(): Disposable & { readonly live: ReadonlyMap<number, NodeJS.Timeout> } {
  const live = new Map<number, NodeJS.Timeout>();
  const hook = createHook({
    init(id, type, _trigger, resource) {
      if (type === 'Timeout' && /src[/\\]sse\.ts/.test(new Error().stack ?? ''))
        live.set(id, resource as NodeJS.Timeout);
    },
    destroy: (id) => void live.delete(id),
  }).enable();
  return { live, [Symbol.dispose]: () => hook.disable() };
}

test('keepAlive: all clients get `ping` without id, from one timer that keeps no process alive', async () => {
  using timers = watchTimers();
  await using served = await serve({ keepAlive: 20 });
  assert.is(timers.live.size, 0);
  const clients = await Promise.all(Array.from({ length: 50 }, () => openStream(served.url)));
  await until('one timer', () => timers.live.size === 1);
  assert.equal(
    [...timers.live.values()].map((timer) => timer.hasRef()),
    [false],
  );
  for (const client of clients) {
    assert.equal(await client.next('ping'), { type: 'ping', data: '{}' });
    await client.next('ping');
  }
  await until('one timer', () => timers.live.size === 1);
  for (const client of clients) client[Symbol.dispose]();
  await clientsAre(served, 0);
  await until('no timer', () => timers.live.size === 0);
  using later = await openStream(served.url);
  await later.next('ping');
});

test('keepAlive: by default at least every 15 s', async () => {
  await using served = await serve();
  using client = await openStream(served.url);
  await client.next('ping', 15_000);
});

test('keepAlive: 0 sends none', async () => {
  using timers = watchTimers();
  await using served = await serve({ keepAlive: 0 });
  using client = await openStream(served.url);
  assert.is(client.status, 200);
  assert.is(timers.live.size, 0);
});

test('idleTimeout ends clients to whom nothing but keep-alive was sent', async () => {
  await using served = await serve({ idleTimeout: 1500, keepAlive: 100 });
  let ping: NodeJS.Timeout | undefined;
  served.channel.on('connect', (client) => {
    if (client.req.url === '/kept') ping = setInterval(() => client.send('own', ''), 50);
  });
  using kept = await openStream(`${served.origin}/kept`);
  const start = performance.now();
  using idle = await openStream(served.url);
  await until('the end of the idle one', () => idle.closed());
  assert.ok(performance.now() - start >= 1495, 'not before its time');
  assert.ok(idle.events.some(({ type }) => type === 'ping'));
  assert.not(kept.closed());
  clearInterval(ping);
  await until('the end of the other', () => kept.closed());
  await clientsAre(served, 0);
});

test('idleTimeout counts from the last event', async () => {
  await using served = await serve({ idleTimeout: 1500 });
  using client = await openStream(served.url);
  const timer = setInterval(() => served.channel.send('x', ''), 50);
  const start = performance.now();
  await until('40 events', () => client.events.length >= 40);
  assert.ok(performance.now() - start > 1800);
  assert.not(client.closed());
  clearInterval(timer);
  await until('the end', () => client.closed());
});

// Ends

test('end() ends the streams, after what was sent, and answers 204 from then on', async () => {
  await using served = await serve({ cors: [FRIEND] });
  const gone: Client[] = [];
  served.channel.on('disconnect', (client) => gone.push(client));
  using first = await openStream(served.url);
  using second = await openStream(served.url);
  served.channel.send('close', 'bye');
  served.channel.end();
  assert.is(served.channel.clients, 0);
  assert.is(gone.length, 2);
  for (const client of [first, second]) {
    await until('the end', () => client.closed());
    assert.equal(client.events, [{ type: 'close', id: 'b-1', data: 'bye' }]);
  }
  served.channel.end();
  const again = await get(served.origin, '/events', { headers: { origin: FRIEND } });
  assert.is(again.status, 204);
  assert.is(again.headers['access-control-allow-origin'], FRIEND);
  assert.is((await get(served.origin, '/events', { method: 'HEAD' })).status, 204);
  assert.is((await get(served.origin, '/events', { method: 'POST' })).status, 405);
  served.channel.send('x', 1);
  await served.channel.close();
  assert.is((await get(served.origin, '/events')).status, 204, 'also after close()');
});

test('close() ends the streams, after what was sent, and cuts off who comes later', async () => {
  await using served = await serve();
  using client = await openStream(served.url);
  served.channel.send('last', '');
  const closed = served.channel.close();
  assert.is(served.channel.clients, 0);
  await within('close()', closed, 1000);
  await until('the end', () => client.closed());
  assert.is(client.events.length, 1);
  using late = raw(served.port, GET);
  assert.is(await late.end(), '');
});

test('close() twice, at once and later, and from a listener', async () => {
  await using served = await serve();
  served.channel.on('disconnect', () => void served.channel.close());
  using client = await openStream(served.url);
  await Promise.all([served.channel.close(), served.channel.close()]);
  await served.channel.close();
  await until('the end', () => client.closed());
  await createChannel().close();
});

test('close() does not wait for a client that does not read', async () => {
  using timers = watchTimers();
  await using served = await serve();
  using client = raw(served.port, GET);
  client.socket.pause();
  await clientsAre(served, 1);
  served.channel.send('big', 'x'.repeat(20_000_000));
  await within('close()', served.channel.close(), 1000);
  assert.is(await connections(served), 0);
  await until('no timer', () => timers.live.size === 0);
});

const connections = (served: Served) =>
  new Promise<number>((resolve, reject) =>
    served.server.getConnections((error, count) => (error ? reject(error) : resolve(count))),
  );

test('a process with an open channel and nothing else to do exits', async () => {
  const script = `
    import { createServer } from 'node:http';
    import { connect } from 'node:net';
    import { createChannel } from ${JSON.stringify(new URL('../src/sse.ts', import.meta.url).href)};
    const channel = createChannel();
    const server = createServer(channel.connect).listen(0, '127.0.0.1', () => {
      const socket = connect(server.address().port, '127.0.0.1', () => socket.write(${JSON.stringify(GET)}));
      socket.once('data', () => { socket.unref(); server.unref(); console.log(channel.clients); });
    }).on('connection', (socket) => socket.unref());`;
  const child = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', script]);
  const [code, output] = await within('the exit', ended(child), 15_000);
  assert.is(output, '1\n');
  assert.is(code, 0);
});

function ended(child: ChildProcess): Promise<[number | null, string]> {
  let output = '';
  child.stdout?.on('data', (chunk: Buffer) => {
    output += chunk;
  });
  child.stderr?.on('data', (chunk: Buffer) => {
    output += chunk;
  });
  return new Promise((resolve) => child.on('close', (code) => resolve([code, output])));
}

// Clients that vanish, or don't read

test('1,000 abrupt disconnects leave no client, connection, timer or listener', async () => {
  using timers = watchTimers();
  await using served = await serve();
  let [came, went] = [0, 0];
  served.channel.on('connect', () => came++);
  served.channel.on('disconnect', () => went++);
  const before = listenerCounts(served.server);
  for (let round = 0; round < 4; round++) {
    const clients = Array.from({ length: 250 }, () => raw(served.port, GET));
    await clientsAre(served, 250);
    served.channel.send('x', 'y'.repeat(1000));
    for (const { socket } of clients) socket.resetAndDestroy();
    served.channel.send('x', 'y'.repeat(1000));
    await clientsAre(served, 0);
  }
  assert.equal([came, went], [1000, 1000]);
  await until('no connection', async () => (await connections(served)) === 0);
  await until('no timer', () => timers.live.size === 0);
  assert.equal(listenerCounts(served.server), before);
  using fresh = await openStream(served.url);
  served.channel.send('x', 'still there');
  await fresh.next('x');
});

const listenerCounts = (server: Server) =>
  server.eventNames().map((name) => [name, server.listenerCount(name)]);

test('a connection that is used again has no listener of a stream left', async () => {
  let socket: IncomingMessage['socket'] | undefined;
  await using served = await serve({}, (req) => {
    socket = req.socket;
  });
  const count = () => socket?.eventNames().map((name) => [name, socket?.listenerCount(name)]);
  const clients: Client[] = [];
  served.channel.on('connect', (client) => clients.push(client));
  using client = raw(served.port, GET.replace('GET', 'HEAD'));
  await client.match(/200 OK/);
  const before = count();
  for (let i = 1; i <= 20; i++) {
    client.socket.write(GET);
    await clientsAre(served, 1);
    clients.at(-1)?.end();
    await until('the end of the stream', () => client.received().split('\r\n0\r\n\r\n').length === i + 1);
  }
  assert.equal(count(), before);
});

test('a half-closed client is forgotten', async () => {
  await using served = await serve();
  const socket = connectSocket({ port: served.port, host: '127.0.0.1', allowHalfOpen: true });
  socket.on('error', () => {});
  socket.write(GET);
  await clientsAre(served, 1);
  socket.end();
  await clientsAre(served, 0, 2000);
  socket.destroy();
});

test('a half-closed client that does not read is forgotten', async () => {
  await using served = await serve({ stalled: { bytes: 100_000_000, ms: 200 } });
  const socket = connectSocket({ port: served.port, host: '127.0.0.1', allowHalfOpen: true });
  socket.on('error', () => {});
  socket.pause();
  socket.write(GET);
  await clientsAre(served, 1);
  served.channel.send('big', 'x'.repeat(20_000_000));
  socket.end();
  await clientsAre(served, 0, 2000);
  await until('no connection', async () => (await connections(served)) === 0);
  socket.destroy();
});

test('a stream that waits behind another of its connection is forgotten with it', async () => {
  await using served = await serve();
  using client = raw(served.port, GET + GET);
  await clientsAre(served, 2);
  client.socket.destroy();
  await clientsAre(served, 0);
});

test('connect() of a client that is gone already is nothing', async () => {
  const channel = createChannel();
  const results: unknown[] = [];
  let asked = false;
  const server = createServer((req, res) => {
    asked = true;
    res.once('close', () => results.push(channel.connect(req, res)));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  using client = raw((server.address() as AddressInfo).port, GET);
  await until('the request', () => asked);
  client.socket.destroy();
  await until('connect()', () => results.length === 1);
  assert.equal(results, [undefined]);
  assert.is(channel.clients, 0);
  server.close();
});

test('stalled.bytes cuts off a client that does not read; another hears everything', async () => {
  await using served = await serve({ stalled: { bytes: 500_000, ms: 60_000 } });
  using stuck = raw(served.port, GET);
  stuck.socket.pause();
  await clientsAre(served, 1);
  using reader = await openStream(served.url);
  for (let i = 0; served.channel.clients === 2; i++) {
    assert.ok(i < 400, 'cut off');
    served.channel.send('big', 'x'.repeat(100_000));
    const newest = served.channel.lastId;
    await until('the event', () => reader.events.some(({ id }) => id === newest));
  }
  assert.is(reader.events.length, Number(served.channel.lastId.slice(2)));
  assert.is(await connections(served), 1);
});

test('stalled.ms cuts off a client that takes nothing, however little waits', async () => {
  await using served = await serve({ stalled: { bytes: 1_000_000_000, ms: 300 } });
  using stuck = raw(served.port, GET);
  stuck.socket.pause();
  await clientsAre(served, 1);
  const start = performance.now();
  served.channel.send('big', 'x'.repeat(20_000_000));
  await clientsAre(served, 0, 3000);
  assert.ok(performance.now() - start >= 295);
  await until('no connection', async () => (await connections(served)) === 0);
});

test('stalled.ms does not count for a client that took all there was', async () => {
  await using served = await serve({ stalled: { bytes: 1_000_000_000, ms: 5000 } });
  const clients: Client[] = [];
  served.channel.on('connect', (client) => clients.push(client));
  using reader = await openStream(served.url);
  served.channel.send('big', 'x'.repeat(2_000_000));
  await reader.next('big');
  using stuck = raw(served.port, GET);
  stuck.socket.pause();
  await clientsAre(served, 2);
  clients[1]?.send('big', 'x'.repeat(20_000_000));
  await clientsAre(served, 1, 15_000);
  served.channel.send('small', '');
  await reader.next('small');
});

test('what is sent at one go may be more than stalled.bytes, for a client that reads', async () => {
  await using served = await serve({ stalled: { bytes: 1000, ms: 30_000 } });
  using client = await openStream(served.url);
  for (let i = 0; i < 200; i++) served.channel.send('big', 'x'.repeat(100_000));
  await new Promise((resolve) => setImmediate(resolve));
  await until('all of them', () => client.events.length === 200);
  for (let i = 0; i < 3; i++) served.channel.send('small', '');
  await client.next('small');
  assert.is(served.channel.clients, 1);
});

test('the missed events may be more than stalled.bytes', async () => {
  await using served = await serve({
    history: { events: 1000, bytes: 50_000_000 },
    stalled: { bytes: 1000, ms: 30_000 },
  });
  for (let i = 0; i < 100; i++) served.channel.send('big', 'x'.repeat(100_000));
  using client = await resumed(served, 'b-0');
  served.channel.send('sentinel', '');
  await client.next('sentinel');
  assert.is(client.events.length, 101);
});

test('10,000 events of 100 MB with a client that never reads: memory is bounded, others hear all, it comes back', async () => {
  await using served = await serve();
  using stuck = raw(served.port, GET);
  stuck.socket.pause();
  await clientsAre(served, 1);
  const reader = clientProcess(served.port, 1);
  await clientsAre(served, 2);
  const text = 'x'.repeat(10_000);
  let peak = 0;
  const before = memory();
  for (let i = 1; i <= 10_000; i++) {
    served.channel.send('big', text);
    if (i % 50 === 0) {
      await reader.heard(i);
      if (memory() - before > peak) collect(); // what nobody holds does not count
      peak = Math.max(peak, memory() - before);
    }
  }
  await reader.heard(10_000);
  reader.end();
  assert.ok(peak < 64 * 1024 * 1024, `grew by ${(peak / 1024 / 1024).toFixed()} MB`);
  await until('the stalled one is cut off', () => served.channel.clients === 0);
  stuck.socket.resume();
  await until('its end', () => stuck.closed());
  const ids = [...stuck.received().matchAll(/^id: (b-\d+)$/gm)].map(([, id]) => id);
  assert.is((await back(served, { 'last-event-id': ids.at(-1) ?? '' })).missed, 'unknown');
  assert.equal((await back(served, { 'last-event-id': 'b-9999' })).missed, 'sent');
});

/** Bytes of memory outside V8's heap and in it that this process holds now. */
function memory(): number {
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

/** Has V8 free what nobody holds. */
function collect(): void {
  setFlagsFromString('--expose-gc');
  runInNewContext('gc')();
}

test('a client that never reads is cut off for many small events, too', async () => {
  await using served = await serve();
  using stuck = raw(served.port, GET);
  stuck.socket.pause();
  await clientsAre(served, 1);
  const before = memory();
  for (let i = 1; served.channel.clients > 0; i++) {
    assert.ok(i < 400_000, 'cut off'); // the system takes what Node 26 sends at once
    served.channel.send('x', '');
    if (i % 1000 > 0) continue;
    await new Promise((resolve) => setImmediate(resolve));
    // What nobody holds any more may still be there.
    if (memory() - before >= 40 * 1024 * 1024) collect();
    assert.ok(memory() - before < 40 * 1024 * 1024);
  }
});

// Many

interface ClientProcess {
  /** Waits until each of its clients has heard this many events. */
  heard(events: number): Promise<void>;
  end(): void;
}

/** `count` clients in a process of their own: it has file descriptors of its own, too. */
function clientProcess(port: number, count: number): ClientProcess {
  const script = `
    const { connect } = require('node:net');
    const heard = new Array(${count}).fill(0);
    let told = 0;
    for (let i = 0; i < ${count}; i++) {
      const socket = connect(${port}, '127.0.0.1', () => socket.write(${JSON.stringify(GET)}));
      let tail = '';
      socket.setEncoding('latin1');
      socket.on('data', (chunk) => {
        const text = tail + chunk;
        tail = text.slice(-6);
        heard[i] += text.split('\\ndata: ').length - 1;
        setImmediate(tell);
      });
    }
    function tell() {
      const least = Math.min(...heard);
      if (least > told) process.stdout.write((told = least) + '\\n');
    }
    process.stdin.on('end', () => process.exit()).resume();`;
  const child = spawn(process.execPath, ['-e', script], { stdio: ['pipe', 'pipe', 'inherit'] });
  let heard = 0;
  child.stdout.setEncoding('utf8').on('data', (lines: string) => {
    heard = Number(lines.trim().split('\n').at(-1));
  });
  return {
    heard: async (events) => {
      await until(`${count} clients to hear ${events} events`, () => heard >= events, 30_000);
    },
    end: () => child.kill('SIGKILL'),
  };
}

/** How many connections this process may have open, with room for all else. */
function mostConnections(): number {
  const limit = execFileSync('sh', ['-c', 'ulimit -n']).toString().trim();
  return limit === 'unlimited' ? Infinity : Number(limit) - 200;
}

for (const wanted of [1000, 5000]) {
  const count = Math.min(wanted, mostConnections());
  test(`send() reaches ${count} clients`, async () => {
    await using served = await serve({ keepAlive: 0 });
    const processes = [clientProcess(served.port, count - 10), clientProcess(served.port, 10)];
    try {
      await clientsAre(served, count, 30_000);
      let encoded = 0;
      served.channel.send('x', { toJSON: () => ++encoded });
      await Promise.all(processes.map((clients) => clients.heard(1)));
      assert.is(encoded, 1);
      assert.is(served.channel.clients, count);
    } finally {
      for (const clients of processes) clients.end();
    }
    await clientsAre(served, 0, 30_000);
  });
}

test.run();
