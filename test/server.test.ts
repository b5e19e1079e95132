import { spawn } from 'node:child_process';
import { renameSync, rmSync, utimesSync } from 'node:fs';
import { createServer } from 'node:http';
import { createServer as createSocketServer } from 'node:net';
import { networkInterfaces } from 'node:os';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type LiveEvents, live, type StartOptions, start } from '../src/index.ts';
import { folder, freePort, get, navigation, openStream, raw, until, within } from './harness.ts';
import { servers } from './servers.ts';

const page = '<!doctype html><title>Page</title><p>text';
const at = (url: string) => `${url}__events`;

/** The id at which a page says it was made. */
function madeAt(html: string): string {
  return /data-id="([^"]+)"/.exec(html)?.[1] ?? assert.unreachable('the page carries no id') ?? '';
}

test('start() serves the folder, with one client script in each document', async () => {
  using site = folder({ 'index.html': page, 'docs/a b.html': page });
  await using server = await start({ root: site.path, port: 0 });
  assert.is(server.url, `http://localhost:${server.port}/`);
  assert.is(server.host, 'localhost');
  assert.is(server.root, site.path);
  for (const [path, src] of [
    ['/', './__events/client.js'],
    ['/docs/a%20b.html', '../__events/client.js'],
    ['/docs/a%20b.html?x=/y/', '../__events/client.js'],
  ] as const) {
    const { status, text } = await get(server.url, path, { headers: navigation });
    assert.is(status, 200);
    assert.is(text.match(/<script/g)?.length, 1);
    assert.ok(text.includes(`src="${src}"`), text);
  }
});

test('start() serves the client script under the path of the stream', async () => {
  using site = folder({});
  await using server = await start({ root: site.path, port: 0, path: '/deep/live' });
  const script = await get(server.url, '/deep/live/client.js');
  assert.is(script.status, 200);
  assert.is(script.headers['content-type'], 'text/javascript; charset=utf-8');
  const again = await get(server.url, '/deep/live/client.js', {
    headers: { 'if-none-match': String(script.headers.etag) },
  });
  assert.is(again.status, 304);
  assert.is((await get(server.url, '/deep/live/nothing.js')).status, 404);
  assert.is((await get(server.url, '/deep/live/__proto__')).status, 404);
  assert.is((await get(server.url, '/deep/live/client.js', { method: 'POST' })).status, 405);
  assert.is((await get(server.url, '/__events')).status, 404);
});

test('a saved stylesheet is one css event on the wire', async () => {
  using site = folder({ 'css/site.css': 'a{}' });
  await using server = await start({ root: site.path, port: 0 });
  using stream = raw(server.port, 'GET /__events HTTP/1.0\r\nHost: localhost\r\n\r\n');
  await stream.match(/event: hello\n/);
  site.write('css/site.css', 'a{color:red}');
  const [block] = await stream.match(/event: css\n[\s\S]*?\n\n/);
  assert.match(block, /^event: css\nid: [a-z0-9]+-1\ndata: {"paths":\["\/css\/site\.css"\]}\n\n$/);
  site.write('end.txt', 'x');
  await stream.match(/event: reload\n/);
  assert.is(stream.received().match(/event: css\n/g)?.length, 1);
  assert.match(stream.received(), /\r\n\r\nretry: 500\nid: [a-z0-9]+-0\n\nevent: hello\n/);
});

test('anything else that changes, appears or goes away is one reload event', async () => {
  using site = folder({ 'index.html': page, 'a.js': '1', 'b.css': 'a{}' });
  await using server = await start({ root: site.path, port: 0 });
  using stream = await openStream(at(server.url));
  await stream.next('hello');
  const event = async () => JSON.parse((await stream.next('reload')).data);
  const next = async () => (await event()).paths;
  site.write('index.html', `${page} more`);
  assert.equal(await next(), ['/index.html']);
  site.write('new/page.html', page);
  assert.equal(await next(), ['/new/page.html']);
  rmSync(site.file('a.js'));
  assert.equal(await event(), { paths: ['/a.js'], gone: ['/a.js'] });
  rmSync(site.file('b.css'));
  assert.equal(await next(), ['/b.css']);
  renameSync(site.file('index.html'), site.file('100% & #1?.html'));
  assert.equal((await next()).sort(), ['/100%25%20&%20%231%3F.html', '/index.html']);
  assert.equal(
    stream.events.map(({ type }) => type),
    ['hello', ...Array(5).fill('reload')],
  );
});

test('a touch, a dotfile and node_modules send nothing', async () => {
  using site = folder({ 'a.js': '1', '.env': '1', 'node_modules/x/a.js': '1' });
  await using server = await start({ root: site.path, port: 0 });
  await get(server.url, '/a.js');
  using stream = await openStream(at(server.url));
  await stream.next('hello');
  utimesSync(site.file('a.js'), new Date(), new Date());
  site.write('.env', '2');
  site.write('node_modules/x/a.js', '2');
  site.write('end.txt', 'x');
  assert.is((await stream.next('reload')).data, '{"paths":["/end.txt"]}');
});

test('a change is heard of with the time it took and the clients that got it', async () => {
  using site = folder({ 'a.css': 'a{}' });
  await using server = await start({ root: site.path, port: 0 });
  using stream = await openStream(at(server.url));
  await stream.next('hello');
  const heard: LiveEvents['change'][] = [];
  const undo = server.on('change', (change) => heard.push(change));
  const file = site.write('a.css', 'a{color:red}');
  const [change] = await until('the change', () => heard.length > 0 && heard);
  assert.equal(change?.changes, [{ type: 'change', file, path: '/a.css' }]);
  assert.equal(change?.event, { type: 'css', paths: ['/a.css'] });
  assert.is(change?.clients, 1);
  assert.ok((change?.ms ?? -1) >= 0);
  undo();
  site.write('a.css', 'a{color:blue}');
  await stream.next('css');
  await stream.next('css');
  assert.is(heard.length, 1);
});

test('a page made before a change hears of it when its stream opens after the change', async () => {
  using site = folder({ 'index.html': page, 'a.css': 'a{}' });
  await using server = await start({ root: site.path, port: 0 });
  const { text } = await get(server.url, '/', { headers: navigation });
  using other = await openStream(at(server.url));
  site.write('a.css', 'a{color:red}');
  await other.next('css');
  using stream = await openStream(`${at(server.url)}?lastEventId=${madeAt(text)}`);
  assert.is((await stream.next('css')).data, '{"paths":["/a.css"]}');
});

test('a client of an earlier start is told to reload once', async () => {
  using site = folder({ 'index.html': page });
  await using server = await start({ root: site.path, port: 0 });
  using stream = await openStream(at(server.url), { 'last-event-id': 'abc-7' });
  const reload = await stream.next('reload');
  assert.is(reload.data, '{"paths":[]}');
  using again = await openStream(at(server.url), { 'last-event-id': String(reload.id) });
  await again.next('hello');
  server.send('end');
  await again.next('end');
  assert.equal(
    again.events.map(({ type }) => type),
    ['hello', 'hello', 'end'], // the second names the new type
  );
});

test('reload(), css() and send() reach every client', async () => {
  using site = folder({});
  await using server = await start({ root: site.path, port: 0 });
  using stream = await openStream(at(server.url));
  await stream.next('hello');
  server.reload();
  server.reload(['/a.html', '/b.html']);
  server.css();
  server.css('/a.css');
  server.send('clock', { time: 12 });
  server.send('note', 'one\ntwo');
  await stream.next('note');
  assert.equal(
    stream.events.filter(({ type }) => type !== 'hello').map(({ type, data }) => [type, data]),
    [
      ['reload', '{"paths":[]}'],
      ['reload', '{"paths":["/a.html","/b.html"]}'],
      ['css', '{"paths":[]}'],
      ['css', '{"paths":["/a.css"]}'],
      ['clock', '{"time":12}'],
      ['note', 'one\ntwo'],
    ],
  );
});

test('error() stands, for those who come later too, until something is published', async () => {
  using site = folder({});
  await using server = await start({ root: site.path, port: 0 });
  using stream = await openStream(at(server.url));
  await stream.next('hello');
  server.error(new Error('Unexpected token'));
  const failure = await stream.next('failure');
  assert.is(JSON.parse(failure.data).message, 'Unexpected token');
  using later = await openStream(at(server.url));
  assert.equal(await later.next('failure'), failure);
  server.css();
  using last = await openStream(at(server.url));
  server.send('end');
  await last.next('end');
  assert.not.ok(last.events.some(({ type }) => type === 'failure'));
});

for (const type of ['reload', 'css', 'failure', 'hello', 'ping', 'open', 'error']) {
  test(`send() of the reserved type ${type} is refused`, async () => {
    await using hot = live();
    assert.throws(
      () => hot.send(type),
      (error: Error) => error instanceof RangeError && error.message.includes(`"${type}"`),
    );
  });
}

test('classify decides what is sent, and its failure is told', async () => {
  using site = folder({ 'a.json': '1', 'b.json': '1', 'c.json': '1' });
  await using server = await start({
    root: site.path,
    port: 0,
    classify: (changes) => {
      if (changes.some(({ path }) => path === '/a.json')) return undefined;
      if (changes.some(({ path }) => path === '/b.json')) return { type: 'css', paths: ['/x.css'] };
      throw new Error('broken');
    },
  });
  const errors: Error[] = [];
  server.on('error', (error) => errors.push(error));
  const events: unknown[] = [];
  server.on('change', ({ event }) => events.push(event));
  for (const [i, name] of ['a.json', 'b.json', 'c.json'].entries()) {
    site.write(name, '2');
    await until(name, () => events.length === i + 1);
  }
  assert.equal(events, [
    undefined,
    { type: 'css', paths: ['/x.css'] },
    { type: 'reload', paths: ['/c.json'] },
  ]);
  assert.equal(
    errors.map(({ cause }) => (cause as Error).message),
    ['broken'],
  );
});

test('a file that changes four times in two seconds is named as the cause of a reload loop', async () => {
  using site = folder({ 'log.json': '0' });
  await using server = await start({ root: site.path, port: 0 });
  const lines: string[] = [];
  server.on('notice', (line) => lines.push(line));
  let seen = 0;
  server.on('change', () => seen++);
  for (let i = 1; i <= 6 || (lines.length === 0 && i < 40); i++) {
    site.write('log.json', String(i));
    await until('the change', () => seen >= i);
  }
  assert.equal(lines.length, 1);
  assert.match(lines[0] ?? '', /^\/log\.json changed four times in two seconds.*--ignore "log\.json"$/);
});

test('middleware comes before the files, and what it sends as HTML is alive too', async () => {
  using site = folder({ 'index.html': page });
  await using server = await start({
    root: site.path,
    port: 0,
    headers: { 'X-Own': 'yes' },
    middleware: [
      (req, res, next) =>
        req.url === '/made' ? res.setHeader('Content-Type', 'text/html').end(page) : next(),
      (req, _res, next) => (req.url === '/bad' ? next(new Error('secret')) : next()),
      async (req, _res, next) => {
        if (req.url === '/worse') throw new Error('secret');
        next();
      },
    ],
  });
  const errors: string[] = [];
  server.on('error', (error) => errors.push(error.message));
  const made = await get(server.url, '/made', { headers: navigation });
  assert.match(made.text, /<script async src="\.\/__events\/client\.js"/);
  assert.is(made.headers['x-own'], 'yes');
  assert.is((await get(server.url, '/', { headers: navigation })).headers['x-own'], 'yes');
  for (const path of ['/bad', '/worse']) {
    const { status, text } = await get(server.url, path);
    assert.is(status, 500);
    assert.is(text, 'Internal Server Error\n');
  }
  assert.equal(errors, ['Could not answer GET /bad', 'Could not answer GET /worse']);
});

test('mounts are served and watched under their path', async () => {
  using site = folder({ 'index.html': page });
  using other = folder({ 'a b.css': 'a{}' });
  await using server = await start({ root: site.path, port: 0, mounts: { '/assets': other.path } });
  assert.is((await get(server.url, '/assets/a%20b.css')).text, 'a{}');
  using stream = await openStream(at(server.url));
  await stream.next('hello');
  other.write('a b.css', 'a{color:red}');
  assert.is((await stream.next('css')).data, '{"paths":["/assets/a%20b.css"]}');
});

test('live() makes the pages of a server of one’s own alive', async () => {
  using views = folder({ 'a.pug': '1' });
  await using hot = live({ watch: views.path });
  const server = createServer((req, res) => {
    hot.middleware(req, res, () => res.setHeader('Content-Type', 'text/html; charset=utf-8').end(page));
  }).listen(0, '127.0.0.1');
  await Promise.all([
    hot.ready,
    within('the server to listen', new Promise((resolve) => server.once('listening', resolve))),
  ]);
  const url = `http://127.0.0.1:${(server.address() as { port: number }).port}/`;
  try {
    assert.match(
      (await get(url, '/any/page', { headers: navigation })).text,
      /src="\.\.\/__events\/client\.js"/,
    );
    assert.is((await get(url, '/__events/client.js')).status, 200);
    using stream = await openStream(at(url));
    await stream.next('hello');
    assert.is(hot.clients, 1);
    views.write('a.pug', '2');
    assert.is((await stream.next('reload')).data, '{"paths":["/__events/client.js"]}');
    views.write('a.js', '2');
    assert.is((await stream.next('reload')).data, '{"paths":[]}');
  } finally {
    server.close();
    server.closeAllConnections();
  }
});

test('every response says who may use it; a strange host, a foreign page and a preflight get nothing', async () => {
  using site = folder({ 'index.html': page });
  await using server = await start({ root: site.path, port: 0 });
  const notices: string[] = [];
  server.on('notice', (line) => notices.push(line));
  for (const path of ['/', '/nothing', '/__events/client.js', '/__events/nothing', '/%zz']) {
    const { headers } = await get(server.url, path);
    assert.is(headers['cross-origin-resource-policy'], 'same-origin', path);
    assert.is(headers['x-content-type-options'], 'nosniff', path);
    assert.is(headers['access-control-allow-origin'], undefined, path);
  }
  for (const path of ['/', '/__events', '/__events/client.js']) {
    assert.is((await get(server.url, path, { headers: { host: 'evil.example' } })).status, 403, path);
  }
  assert.ok(
    notices.includes(
      'Refused a request for the host "evil.example". If it is yours, start with --allow evil.example',
    ),
  );
  for (const headers of [
    { origin: 'null' },
    { origin: 'http://localhost:1' },
    { 'sec-fetch-site': 'cross-site' },
  ]) {
    assert.is((await get(server.url, '/__events', { headers })).status, 403);
  }
  assert.is(
    (await get(server.url, '/', { method: 'OPTIONS', headers: { origin: 'http://localhost:1' } })).status,
    405,
  );
});

test('cors admits the origins listed, to the files and to the stream', async () => {
  using site = folder({ 'a.json': '1' });
  await using server = await start({ root: site.path, port: 0, cors: ['http://localhost:3000'] });
  const admitted = { origin: 'http://localhost:3000', 'sec-fetch-site': 'same-site' };
  const { headers } = await get(server.url, '/a.json', { headers: admitted });
  assert.is(headers['access-control-allow-origin'], 'http://localhost:3000');
  assert.is(headers.vary, 'Origin');
  using stream = await openStream(at(server.url), admitted);
  assert.is(stream.headers['access-control-allow-origin'], 'http://localhost:3000');
  const stranger = await get(server.url, '/a.json', { headers: { origin: 'http://localhost:30001' } });
  assert.is(stranger.headers['access-control-allow-origin'], undefined);
});

test('no request takes the server down', async () => {
  using site = folder({ 'index.html': page, 'big.bin': Buffer.alloc(4_000_000) });
  await using server = await start({ root: site.path, port: 0 });
  for (const request of [
    'GET /%E0%A4%A HTTP/1.1\r\nHost: localhost\r\n\r\n',
    'GET /%00 HTTP/1.1\r\nHost: localhost\r\n\r\n',
    'GET //[ HTTP/1.1\r\nHost: localhost\r\n\r\n',
    'GET http://[/ HTTP/1.1\r\nHost: localhost\r\n\r\n',
    'GET * HTTP/1.1\r\nHost: localhost\r\n\r\n',
    'GET / HTTP/1.1\r\nHost: localhost\r\nRange: bytes=5-2\r\n\r\n',
    'GET / HTTP/1.1\r\n\r\n',
    'GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n',
    'GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n',
    'POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n',
    'TRACE / HTTP/1.1\r\nHost: localhost\r\n\r\n',
    `GET /${'a'.repeat(20_000)} HTTP/1.1\r\nHost: localhost\r\n\r\n`,
    'nonsense\r\n\r\n',
  ]) {
    using connection = raw(server.port, request);
    await connection.match(/^HTTP\/1\.1 \d\d\d /);
  }
  for (let i = 0; i < 20; i++) {
    using gone = raw(server.port, 'GET /big.bin HTTP/1.1\r\nHost: localhost\r\n\r\n');
    await gone.match(/200 OK/);
  }
  assert.is((await get(server.url, '/', { headers: navigation })).status, 200);
});

test('start() listens on this machine alone, by both addresses', async () => {
  using site = folder({ 'index.html': page });
  await using server = await start({ root: site.path, port: 0 });
  using four = raw(server.port, 'GET / HTTP/1.0\r\n\r\n', '127.0.0.1');
  await four.match(/200 OK/);
  const all = Object.values(networkInterfaces()).flatMap((entries) => entries ?? []);
  if (all.some(({ address }) => address === '::1')) {
    using six = raw(server.port, 'GET / HTTP/1.0\r\n\r\n', '::1');
    await six.match(/200 OK/);
  }
  for (const { address } of all.filter(({ internal, family }) => !internal && family === 'IPv4')) {
    using outside = raw(server.port, 'GET / HTTP/1.0\r\n\r\n', address);
    assert.is(await outside.end(), '', address);
  }
});

test('start() without a port takes the next free one from 8080', async () => {
  using site = folder({});
  await using first = await start({ root: site.path });
  await using second = await start({ root: site.path });
  for (const { port } of [first, second]) assert.ok(port >= 8080 && port < 8180);
  assert.is.not(second.port, first.port);
});

const refused: [name: string, options: StartOptions, message: RegExp][] = [
  [
    'a port that is no number',
    { port: Number.NaN },
    /^Cannot listen on port NaN: give a whole number from 0 to 65535$/,
  ],
  ['a port out of range', { port: 70000 }, /^Cannot listen on port 70000: /],
  [
    'a folder that is not there',
    { root: '/nowhere/at/all' },
    /^Cannot serve "\/nowhere\/at\/all": there is no such folder/,
  ],
  [
    'a file as root',
    { root: new URL(import.meta.url).pathname },
    /: it is a file\. Give the folder it is in$/,
  ],
  [
    'a host that is not of this machine',
    { host: '203.0.113.7', port: 0 },
    /^Cannot listen on 203\.0\.113\.7:0: /,
  ],
  ['a stream path without a slash', { path: 'events' }, /^The event stream cannot be at "events": /],
  [
    'a mount that is no path',
    { mounts: { assets: '.' } },
    /^Cannot mount "\." at "assets": give a URL path like \/assets/,
  ],
  [
    'a header that cannot be sent',
    { headers: { 'X-A': 'a\r\nb' } },
    /^Cannot send the header "X-A: a\\r\\nb"/,
  ],
  ['no time between two looks at the disk', { poll: 0 }, /^Cannot poll every 0 ms: give a number above 0$/],
  ['less than no time between them', { poll: -1 }, /^Cannot poll every -1 ms: give a number above 0$/],
  ['a kind of change that is none', { reloadOnly: ['js' as 'css'] }, /^Cannot reload only for "js": /],
  [
    'an address to open that is no path',
    { open: 'about.html' },
    /^Cannot open "about\.html": give a URL path, like \/about\.html$/,
  ],
];

for (const [name, options, message] of refused) {
  test(`start() with ${name} is refused`, async () => {
    using site = folder({});
    const error = await start({ root: site.path, ...options }).then(
      () => assert.unreachable('it started'),
      (reason: Error) => reason,
    );
    assert.match(error?.message ?? '', message);
  });
}

test('start() on a taken port is refused and leaves nothing behind; so does close()', async () => {
  using site = folder({ 'a/b/c.txt': '' });
  const other = createSocketServer().listen(0, '127.0.0.1');
  await within('the other program to listen', new Promise((resolve) => other.once('listening', resolve)));
  const { port } = other.address() as { port: number };
  // A process of its own: it ends by itself only if nothing is left.
  const script = `
    import { start } from ${JSON.stringify(new URL('../src/index.ts', import.meta.url).href)};
    const root = ${JSON.stringify(site.path)};
    await start({ root, port: ${port} }).catch((error) => console.log(error.message));
    const server = await start({ root, port: 0 });
    const answer = await fetch(server.url + '__events');
    await Promise.all([server.close(), server.close()]);
    console.log('closed', server.clients, (await answer.text()).length > 0);`;
  const child = spawn(process.execPath, [
    '--import',
    import.meta.resolve('tsx'),
    '--input-type=module',
    '-e',
    script,
  ]);
  let output = '';
  child.stdout.on('data', (chunk) => {
    output += chunk;
  });
  child.stderr.on('data', (chunk) => {
    output += chunk;
  });
  const code = await within(
    'the process to end by itself',
    new Promise((resolve) => child.on('close', resolve)),
    20_000,
  );
  other.close();
  assert.is(
    output,
    `Cannot listen on localhost:${port}: another program does already. Stop it, or leave the port out to get a free one\nclosed 0 true\n`,
  );
  assert.is(code, 0);
});

test('a server started again on the same port has its clients back', async () => {
  using site = folder({ 'index.html': page });
  const first = await start({ root: site.path, port: await freePort() });
  using stream = await openStream(at(first.url));
  await first.close();
  await until('the stream to end', () => stream.closed());
  await using second = await start({ root: site.path, port: first.port });
  using again = await openStream(at(second.url));
  await again.next('hello');
  assert.is(second.clients, 1);
});

test('a file that changes after it was served while the server starts is not missed', async () => {
  using site = folder({ 'index.html': page });
  for (let i = 0; i < 300; i++) site.write(`deep/${i}/a.txt`, 'old');
  const port = await freePort();
  const url = `http://localhost:${port}/`;
  for (let i = 0; i < 10; i++) {
    const starting = start({ root: site.path, port });
    const served = await until('an early answer', () => get(url, `/deep/${i}/a.txt`).catch(() => undefined));
    assert.is(served.text, 'old');
    site.write(`deep/${i}/a.txt`, 'new');
    await using server = await starting;
    const id = madeAt((await get(server.url, '/', { headers: navigation })).text);
    using stream = await openStream(`${at(server.url)}?lastEventId=${id.replace(/\d+$/, '0')}`);
    await until('the event', () => stream.events.some(({ data }) => data.includes(`/deep/${i}/a.txt`)));
  }
});

test('poll looks at the disk, and takes no watch of the system', async () => {
  using site = folder({ 'a.css': 'old', 'x/b.css': 'old' });
  await using machine = servers();
  await using server = await machine.start({ root: site.path, poll: 50 });
  assert.is((await machine.resources()).watches, 0);
  using stream = await openStream(at(server.url));
  await stream.next('hello');
  site.write('x/b.css', 'new');
  assert.is((await stream.next('css')).data, '{"paths":["/x/b.css"]}');
});

const plain: [options: StartOptions, kinds: string | undefined][] = [
  [{}, undefined],
  [{ reloadOnly: true }, 'css assets html place'],
  [{ reloadOnly: ['html', 'css'] }, 'html css'],
  [{ overlay: false }, 'overlay'],
  [{ reloadOnly: ['css'], overlay: false }, 'css overlay'],
];

for (const [options, kinds] of plain) {
  test(`start(${JSON.stringify(options)}) tells its pages not to do: ${kinds ?? 'nothing'}`, async () => {
    using site = folder({ 'index.html': page });
    await using server = await start({ root: site.path, port: 0, ...options });
    const { text } = await get(server.url, '/', { headers: navigation });
    assert.is(/ data-plain="([^"]*)"/.exec(text)?.[1], kinds);
  });
}

test('single never answers for a missing asset, nor for anything of the event stream', async () => {
  using site = folder({ 'index.html': page, 'app.html': '<!doctype html><title>App</title>' });
  await using server = await start({ root: site.path, port: 0, single: 'app.html' });
  const asDest = (dest: string) => ({ accept: '*/*', 'sec-fetch-dest': dest });
  const rows: [path: string, headers: Record<string, string>, status: number][] = [
    ['/users/7', navigation, 200],
    ['/users/j.doe', navigation, 200],
    ['/frame', asDest('iframe'), 200],
    ['/users/7', {}, 200], // no browser
    ['/', navigation, 200],
    ['/app.js', asDest('script'), 404],
    ['/style', asDest('style'), 404],
    ['/pic.png', navigation, 404],
    ['/pic.png', {}, 404],
    ['/data.json', asDest('empty'), 404],
    ['/api/users', asDest('empty'), 404],
    ['/font.woff2', asDest('font'), 404],
    ['/.env', navigation, 404],
    ['/__events/', navigation, 404],
    ['/__events/nothing', navigation, 404],
    ['/__events/nothing.js', asDest('script'), 404],
    ['/__eventsource', navigation, 404],
    ['/%5F_events/x', navigation, 404],
  ];
  for (const [path, headers, status] of rows) {
    const answer = await get(server.url, path, { headers });
    assert.is(answer.status, status, `${path} ${JSON.stringify(headers)}`);
    const isApp = status === 200 && path !== '/';
    assert.is(/<title>App/.test(answer.text), isApp, path);
    if (isApp && headers === navigation) assert.match(answer.text, /__events\/client\.js/, path);
  }
  assert.is((await get(server.url, '/users/7', { method: 'POST', headers: navigation })).status, 405);
  using stream = await openStream(at(server.url), navigation);
  await stream.next('hello');
});

test('single leaves the stream alone under a path of one’s own', async () => {
  using site = folder({ 'index.html': page });
  await using server = await start({ root: site.path, port: 0, single: true, path: '/live' });
  assert.is((await get(server.url, '/live/nothing', { headers: navigation })).status, 404);
  assert.is((await get(server.url, '/__events', { headers: navigation })).status, 200);
});

test('a policy given as a header: its nonce is copied, and one that blocks the client says what to allow', async () => {
  using site = folder({ 'index.html': page });
  const rows: [policy: string, nonce: string | undefined, missing: string | undefined][] = [
    ["default-src 'self'", undefined, undefined],
    ["script-src 'nonce-abc123' 'strict-dynamic'", 'abc123', undefined],
    ["script-src 'nonce-abc123'; connect-src 'self'", 'abc123', undefined],
    ["default-src 'none'", undefined, "'self'"],
    ["script-src 'sha256-AAAA' 'strict-dynamic'", undefined, "a nonce ('nonce-…')"],
  ];
  for (const [policy, nonce, missing] of rows) {
    await using server = await start({
      root: site.path,
      port: 0,
      headers: { 'Content-Security-Policy': policy },
    });
    const lines: string[] = [];
    server.on('notice', (line) => lines.push(line));
    const { text, headers } = await get(server.url, '/', { headers: navigation });
    assert.is(headers['content-security-policy'], policy);
    assert.is(/ nonce="([^"]*)"><\/script>/.exec(text)?.[1], nonce, policy);
    const line = `The Content-Security-Policy of "/" blocks the client: allow ${missing} in its script-src`;
    assert.equal(lines, missing === undefined ? [] : [line]);
    // Pages of ours have a policy of their own.
    const { headers: own } = await get(server.url, '/nothing', { headers: navigation });
    assert.match(String(own['content-security-policy']), /^default-src 'none'; script-src 'self'/);
  }
});

test.run();
