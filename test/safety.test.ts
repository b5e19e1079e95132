// The whole server against each promise of the README's section "Safety", by raw requests: nothing is normalised on the
// way. The tests of the parts go deeper; these ask what users run. P1 and so on: the promise that a test is about.

import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage } from 'node:http';
import { type AddressInfo, connect, createServer as createSocketServer } from 'node:net';
import { networkInterfaces } from 'node:os';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type StartOptions, start } from '../src/index.ts';
import { folder, openStream, raw, until, within } from './harness.ts';

const KEY = 'KEY-that-nobody-may-read';
const html = '<!doctype html><title>Page</title><p>text';
const markup = `a<img src=x onerror=alert(1)>"'&b.txt`;

const disk = folder({
  'site/index.html': html,
  'site/a.txt': 'a file',
  'site/a.css': 'a{}',
  'site/100% ü.txt': 'odd name',
  'site/docs/page.html': html,
  [`site/docs/${markup}`]: 'markup',
  'site/docs/javascript:alert(1)': 'markup',
  'site/docs/.hidden': KEY,
  'site/.env': KEY,
  'site/.git/config': KEY,
  'site/server.pem': KEY,
  'site/.well-known/about': 'known',
  'site/fifo/index.txt': 'x',
  'mounted/m.txt': 'mounted file',
  'mounted/.env': KEY,
  'mounted-too/secret.txt': KEY,
  'site-too/secret.txt': KEY,
  'secret.txt': KEY,
  'package.json': `{ "name": "${KEY}" }`,
  'outside/secret.txt': KEY,
});
const links: Record<string, string> = {
  'inside.txt': 'a.txt',
  'out.txt': '../secret.txt',
  'out-absolute.txt': disk.file('secret.txt'),
  out: '..',
  outside: '../outside',
  'chain-1.txt': 'chain-2.txt',
  'chain-2.txt': 'chain-3/secret.txt',
  'chain-3': '../outside',
  loop: 'loop',
  'loop-1': 'loop-2',
  'loop-2': 'loop-1',
  dangling: 'nowhere',
};
for (const [name, target] of Object.entries(links)) symlinkSync(target, disk.file(`site/${name}`));
execFileSync('mkfifo', [disk.file('site/fifo/pipe')]);
const unixSocket = createSocketServer().listen(disk.file('site/fifo/socket'));

const options: StartOptions = {
  root: disk.file('site'),
  port: 0,
  mounts: { '/m': disk.file('mounted') },
};
const server = await start(options);
const { port } = server;
const notices: string[] = [];
const errors: Error[] = [];
server.on('notice', (line) => notices.push(line));
server.on('error', (error) => errors.push(error));

test.after(async () => {
  await server.close();
  unixSocket.close();
  disk[Symbol.dispose]();
});

interface Asked {
  readonly headers?: readonly string[];
  readonly port?: number;
  /** Some responses may be shared with other origins. */
  readonly shared?: boolean;
}

/** Sends a request line with a Host and these headers; gives everything that comes back, once that is known to be safe. */
async function ask(line: string, { headers = [], port: to = port, shared = false }: Asked = {}) {
  const hosts = headers.some((header) => /^host:/i.test(header)) ? [] : ['Host: localhost'];
  return send([line, ...hosts, ...headers, 'Connection: close', '', ''].join('\r\n'), { port: to, shared });
}

async function send(text: string, { port: to = port, shared = false }: Asked = {}): Promise<string> {
  using client = raw(to, text);
  const answer = await client.end();
  checkAnswer(answer, text, shared);
  return answer;
}

/** What holds for every answer to every request. */
function checkAnswer(answer: string, asked: string, shared = false): void {
  const [head = ''] = answer.split('\r\n\r\n', 1);
  assert.match(head, /^HTTP\/1\.1 \d\d\d /, asked);
  assert.not.ok(answer.includes(KEY), asked);
  assert.not.ok(answer.includes(disk.path) && !asked.includes(disk.path), `a path of the disk: ${asked}`);
  assert.not.match(answer, /^\s+at .+:\d+|node:internal|\bE(?:NOENT|ISDIR|LOOP|ACCES|NXIO)\b/m, asked);
  assert.match(head, /^x-content-type-options: nosniff$/im, asked);
  assert.not.match(head, /^x-injected/im, asked);
  if (shared) return;
  assert.match(head, /^cross-origin-resource-policy: same-origin$/im, asked);
  assert.not.match(head, /^(?:access-control-|timing-allow-origin)/im, asked);
}

const statusOf = (answer: string) => Number(/^HTTP\/1\.1 (\d+)/.exec(answer)?.[1]);
const bodyOf = (answer: string) => answer.slice(answer.indexOf('\r\n\r\n') + 4);
const fieldOf = (answer: string, name: string) =>
  new RegExp(`^${name}: ?(.*)$`, 'im').exec(answer.split('\r\n\r\n', 1)[0] ?? '')?.[1];

const navigates = ['Sec-Fetch-Dest: document', 'Sec-Fetch-Mode: navigate', 'Accept: text/html'];

// Files

const ways = [
  ['dots', '/../secret.txt'],
  ['dots further in', '/docs/../../secret.txt'],
  ['dots behind a file', '/a.txt/../../secret.txt'],
  ['dots encoded', '/%2e%2e/secret.txt'],
  ['dots half encoded', '/.%2E/secret.txt'],
  ['dots and slash encoded', '/%2e%2e%2fsecret.txt'],
  ['a slash encoded', '/..%2fsecret.txt'],
  ['dots encoded twice', '/%252e%252e/secret.txt'],
  ['dots and slash encoded twice', '/%252e%252e%252fsecret.txt'],
  ['dots encoded thrice', '/%25252e%25252e%25252fsecret.txt'],
  ['a backslash', '/..\\secret.txt'],
  ['a backslash encoded', '/..%5csecret.txt'],
  ['slashes mixed', '/docs/..%5c../..\\secret.txt'],
  ['a null byte', '/a.txt%00/../../secret.txt'],
  ['a null byte behind', '/../secret.txt%00.html'],
  ['overlong UTF-8', '/%c0%ae%c0%ae/secret.txt'],
  ['overlong UTF-8 slash', '/..%c0%afsecret.txt'],
  ['long overlong UTF-8', '/%e0%80%ae%e0%80%ae/secret.txt'],
  ['full width dots', '/%ef%bc%8e%ef%bc%8e/secret.txt'],
  ['u encoding', '/%u002e%u002e/secret.txt'],
  ['a sibling of like name', '/../site-too/secret.txt'],
  ['a sibling of like name, encoded', '/%2e%2e/site-too/secret.txt'],
  ['a sibling of a mount', '/m/../mounted-too/secret.txt'],
  ['a sibling of a mount, encoded', '/m/%2e%2e/mounted-too/secret.txt'],
  ['a mount as a prefix of a name', '/m-too/secret.txt'],
  ['below the client script', '/__events/../../secret.txt'],
  ['below the client script, encoded', '/__events/%2e%2e/%2e%2e/package.json'],
  ['a part of the client by a path', '/__events/..%2f..%2fpackage.js'],
  ['two slashes', '//secret.txt'],
  ['a host', '//localhost/../secret.txt'],
  ['an absolute path', '//etc/passwd'],
  ['an absolute path, encoded', '/%2fetc%2fpasswd'],
  ['an absolute URL', 'http://localhost/../secret.txt'],
  ['an absolute URL of another host', 'http://evil.example/a.txt'],
  ['a file URL', 'file:///etc/passwd'],
  ['a drive', '/C:/Windows/win.ini'],
  ['a network share', '/\\\\localhost\\share'],
  ['a question mark encoded', '/%3f/../../secret.txt'],
  ['vite’s prefix', '/@fs/etc/passwd'],
  ['vite’s prefix to the secret', `/@fs${disk.file('secret.txt')}`],
  ['the disk’s path itself', disk.file('secret.txt')],
  ['an editor', `/__open-in-editor?file=${disk.file('secret.txt')}`],
  ['the package of the server', '/node_modules/live-sse/package.json'],
  ['a package of the server', '/node_modules/sirv/package.json'],
  ['package.json', '/package.json'],
] as const;

for (const [name, path] of ways) {
  test(`P1 P2 P4 P8 P27 no way out: ${name}`, async () => {
    for (const headers of [[], navigates, ['Range: bytes=0-9']]) {
      assert.ok([400, 404].includes(statusOf(await ask(`GET ${path} HTTP/1.1`, { headers }))), path);
    }
    assert.ok([400, 404].includes(statusOf(await ask(`HEAD ${path} HTTP/1.1`))), path);
  });
}

test('P1 the same with single and the site’s own 404 page', async () => {
  using site = folder({ 'www/index.html': html, 'www/404.html': html, 'secret.txt': KEY, 'www/.env': KEY });
  await using other = await start({ root: site.file('www'), port: 0, single: true });
  for (const path of [...ways.map(([, path]) => path), '/.env', '/%2eenv', '/.git/config']) {
    const answer = await ask(`GET ${path} HTTP/1.1`, { headers: navigates, port: other.port });
    assert.not.ok(answer.includes(site.path), path);
  }
});

test('P3 neither query nor fragment chooses a file', async () => {
  for (const path of ['/a.txt?/../../secret.txt', '/a.txt?x=.env', '/a.txt#/../.env', '/a.txt?%00']) {
    assert.is(bodyOf(await ask(`GET ${path} HTTP/1.1`)), 'a file', path);
  }
  for (const path of [
    '/.env?x',
    '/.env#x',
    '/.env?raw',
    '/.env?import&url',
    '/.env??',
    '/.git/config?/a.txt',
  ]) {
    assert.is(statusOf(await ask(`GET ${path} HTTP/1.1`)), 404, path);
  }
});

test('P4 other forms of target are refused, also for routes of our own', async () => {
  const targets = ['*', 'a.txt', '?x', 'http://[', '//[', '//__events', 'http://localhost/__events', 'x:y'];
  for (const target of targets) {
    assert.ok([400, 404].includes(statusOf(await ask(`GET ${target} HTTP/1.1`))), target);
  }
});

test('P5 links lead nowhere outside: plain, absolute, of folders, in chains, loops, dangling', async () => {
  assert.is(bodyOf(await ask('GET /inside.txt HTTP/1.1')), 'a file');
  for (const name of Object.keys(links).filter((name) => name !== 'inside.txt')) {
    for (const path of [name, `${name}/`, `${name}/secret.txt`, `${name}/site/.env`]) {
      assert.is(statusOf(await ask(`GET /${path} HTTP/1.1`)), 404, path);
    }
  }
  assert.ok(notices.some((line) => line.includes('out.txt') && line.includes('--follow-symlinks')));
});

test('P5 a link that is turned outside later is refused from then on', async () => {
  const link = disk.file('site/turned.txt');
  symlinkSync('a.txt', link);
  assert.is(bodyOf(await ask('GET /turned.txt HTTP/1.1')), 'a file');
  unlinkSync(link);
  symlinkSync('../secret.txt', link);
  assert.is(statusOf(await ask('GET /turned.txt HTTP/1.1')), 404);
  unlinkSync(link);
});

test('P6 hidden names and keys are 404 in every spelling, and in no listing', async () => {
  const hidden = ['/.env', '/%2eenv', '/%2Eenv', '/.%65nv', '/.env/', '/.git', '/.git/', '/.git/config'];
  const others = [
    '/docs/.hidden',
    '/m/.env',
    '/m/%2eenv',
    '/server.pem',
    '/server%2epem',
    '/.ENV',
    '/./.env',
  ];
  for (const path of [...hidden, ...others]) {
    for (const [method, headers] of [
      ['GET', []],
      ['HEAD', []],
      ['GET', navigates],
      ['GET', ['Range: bytes=0-2']],
      ['GET', ['If-None-Match: *']],
    ] as const) {
      const answer = await ask(`${method} ${path} HTTP/1.1`, { headers });
      assert.ok([400, 404].includes(statusOf(answer)), `${method} ${path}`);
    }
  }
  assert.not.match(await ask('GET /docs/ HTTP/1.1'), /\.hidden/);
  assert.not.match(await ask('GET /en HTTP/1.1', { headers: navigates }), /\.env/);
  assert.is(bodyOf(await ask('GET /.well-known/about HTTP/1.1')), 'known');
});

test('P7 special files are 404, at once', async () => {
  for (const path of ['/fifo/pipe', '/fifo/socket', '/fifo/pipe/']) {
    const answers = await Promise.all(Array.from({ length: 8 }, () => ask(`GET ${path} HTTP/1.1`)));
    for (const answer of answers) assert.is(statusOf(answer), 404, path);
  }
  assert.is(statusOf(await ask('GET /fifo/ HTTP/1.1')), 200);
});

// Who may ask

const strangers = [
  'evil.example',
  'evil.example:8080',
  'localhost.evil.example',
  'evil-localhost',
  'localhost.',
  'evil.example#localhost',
  'evil.example/localhost',
  'localhost@evil.example',
  'evil.example@localhost',
  'localhost:8080:80',
  'localhost evil.example',
  'localhost,evil.example',
  '127.0.0.1.evil.example',
  '127.0.0.1.nip.io',
  '127.1.1.1.1',
  '[::1].evil.example',
  '[::1',
  '::1',
  '<script>alert(1)</script>',
  'http://localhost',
  '%6cocalhost',
  '',
];
const doors = [
  '/',
  '/a.txt',
  '/docs',
  '/docs/',
  '/nothing',
  '/m/m.txt',
  '/__events',
  '/__events/client.js',
  '/%zz',
];

for (const host of strangers) {
  test(`P9 the host ${JSON.stringify(host)} gets nothing, by no door, whatever else it sends`, async () => {
    for (const door of doors) {
      const answer = await ask(`GET ${door} HTTP/1.1`, { headers: [`Host: ${host}`] });
      assert.ok([400, 403].includes(statusOf(answer)), `${door}: ${answer}`);
      assert.not.match(answer, /evil|<script|location:|a file/i);
    }
    const headers = [
      `Host: ${host}`,
      'X-Forwarded-Host: localhost',
      'X-Forwarded-For: 127.0.0.1',
      'X-Real-IP: 127.0.0.1',
      'X-Host: localhost',
      'X-Original-Host: localhost',
      'Forwarded: host=localhost;for=127.0.0.1',
      'Origin: http://localhost',
      'Sec-Fetch-Site: same-origin',
    ];
    assert.ok([400, 403].includes(statusOf(await ask('GET / HTTP/1.1', { headers }))));
    const upgrade = ['Upgrade: websocket', 'Connection: Upgrade', `Host: ${host}`];
    assert.ok([400, 403].includes(statusOf(await ask('GET / HTTP/1.1', { headers: upgrade }))));
  });
}

test('P9 the refusal names the flag, in the terminal alone', () => {
  const line =
    'Refused a request for the host "evil.example". If it is yours, start with --allow evil.example';
  assert.ok(notices.includes(line));
});

test('P9 two Hosts are 400, in any order and case', async () => {
  for (const [a, b] of [
    ['Host: localhost', 'Host: localhost'],
    ['Host: localhost', 'Host: evil.example'],
    ['Host: evil.example', 'hOST: localhost'],
  ] as const) {
    assert.is(statusOf(await ask('GET /a.txt HTTP/1.1', { headers: [a, b] })), 400);
  }
});

test('P9 without a Host: HTTP/1.1 is 400, HTTP/1.0 is a local program', async () => {
  using hostless = raw(port, 'GET /a.txt HTTP/1.1\r\nConnection: close\r\n\r\n');
  const refused = await hostless.end();
  assert.match(refused, /^HTTP\/1\.1 400 [\s\S]*\r\n\r\nBad Request: no Host\n$/);
  assert.match(refused, /^Cross-Origin-Resource-Policy: same-origin\r$/m);
  assert.is(bodyOf(await send('GET /a.txt HTTP/1.0\r\n\r\n')), 'a file');
  for (const path of ['/.env', '/../secret.txt']) {
    assert.ok([400, 404].includes(statusOf(await send(`GET ${path} HTTP/1.0\r\n\r\n`))));
  }
});

test('P9 allowedHosts admits those names, with a dot their subdomains, and nothing that looks like them', async () => {
  await using other = await start({ ...options, allowedHosts: ['mybox.local', '.tunnel.example'] });
  for (const [host, status] of [
    ['mybox.local', 200],
    ['MyBox.local:8080', 200],
    ['a.mybox.local', 403],
    ['xmybox.local', 403],
    ['mybox.local.evil.example', 403],
    ['tunnel.example', 200],
    ['a.b.tunnel.example', 200],
    ['xtunnel.example', 403],
    ['.tunnel.example', 400],
  ] as const) {
    const answer = await ask('GET /a.txt HTTP/1.1', { headers: [`Host: ${host}`], port: other.port });
    assert.is(statusOf(answer), status, host);
  }
});

const foreign = [
  ['Origin: http://evil.example'],
  ['Origin: null'],
  ['Origin: http://localhost:1', 'Sec-Fetch-Site: same-site'],
  ['Origin: https://localhost'],
  ['Origin: http://localhost.evil.example'],
  ['Origin: http://localhost@evil.example'],
  ['Origin: http://evil.example', 'Sec-Fetch-Site: cross-site', 'Sec-Fetch-Dest: empty'],
  ['Sec-Fetch-Site: cross-site', 'Sec-Fetch-Dest: script'],
  ['Origin: not an origin'],
];

for (const headers of foreign) {
  test(`P10 P11 P12 a page elsewhere has no permission and no stream: ${headers.join(', ')}`, async () => {
    for (const door of doors.filter((door) => door !== '/__events')) {
      await ask(`GET ${door} HTTP/1.1`, { headers }); // ask() looks for what would share it
    }
    const preflight = ['Access-Control-Request-Method: GET', 'Access-Control-Request-Private-Network: true'];
    for (const door of doors) {
      const answer = await ask(`OPTIONS ${door} HTTP/1.1`, { headers: [...headers, ...preflight] });
      assert.ok(statusOf(answer) >= 400, door);
    }
    assert.is(statusOf(await ask('GET /__events HTTP/1.1', { headers })), 403);
    assert.is(server.clients, 0);
  });
}

test('P10 cors admits the origin that is listed, to all but nothing that looks like it', async () => {
  const friend = 'http://localhost:3000';
  await using other = await start({ ...options, cors: [friend] });
  for (const [origin, isAdmitted] of [
    [friend, true],
    ['http://localhost:30000', false],
    ['http://localhost:300', false],
    ['https://localhost:3000', false],
    ['http://localhost:3000.evil.example', false],
    ['http://LOCALHOST:3000', false],
    [`${friend}/`, false],
    ['null', false],
    [`${friend}, http://evil.example`, false],
  ] as const) {
    for (const door of ['/a.txt', '/', '/nothing', '/__events/client.js', '/m/m.txt']) {
      const asked = { headers: [`Origin: ${origin}`], port: other.port, shared: true };
      const answer = await ask(`GET ${door} HTTP/1.1`, asked);
      const expected = isAdmitted ? origin : undefined;
      assert.is(fieldOf(answer, 'access-control-allow-origin'), expected, `${origin} ${door}`);
      assert.match(fieldOf(answer, 'vary') ?? '', /\bOrigin\b/);
      const policy = isAdmitted ? 'cross-origin' : 'same-origin';
      assert.is(fieldOf(answer, 'cross-origin-resource-policy'), policy, `${origin} ${door}`);
    }
    using stream = raw(other.port, `GET /__events HTTP/1.1\r\nHost: localhost\r\nOrigin: ${origin}\r\n\r\n`);
    const [head] = await stream.match(/^[\s\S]*?\r\n\r\n/);
    assert.is(statusOf(head), isAdmitted ? 200 : 403, origin);
  }
});

const writes = ['POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS', 'TRACE', 'PROPFIND', 'MKCOL', 'MOVE', 'QUERY'];

for (const method of writes) {
  test(`P13 P15 ${method} is 405 everywhere, echoes nothing and changes nothing`, async () => {
    for (const door of [
      '/',
      '/a.txt',
      '/docs/',
      '/nothing',
      '/__events',
      '/__events/client.js',
      '/m/m.txt',
    ]) {
      const headers = ['Content-Length: 3', 'Content-Type: text/plain', 'X-Echo: echo-this'];
      const text = `${method} ${door} HTTP/1.1\r\nHost: localhost\r\n${headers.join('\r\n')}\r\nConnection: close\r\n\r\nabc`;
      const answer = await send(text);
      assert.is(statusOf(answer), 405, door);
      assert.match(fieldOf(answer, 'allow') ?? '', /\bGET\b/, door);
      assert.not.match(answer, /echo-this/);
    }
    assert.is(bodyOf(await ask('GET /a.txt HTTP/1.1')), 'a file');
  });
}

const triggerers = [
  ...foreign,
  ['Sec-Fetch-Site: none'],
  ['Sec-Fetch-Site: same-origin'],
  ['Origin: http://localhost', 'Sec-Fetch-Site: cross-site'],
  ['Origin: http://localhost:80'],
  ['X-Forwarded-For: 203.0.113.7'],
  ['Forwarded: for=203.0.113.7'],
  ['Host: mybox.local'],
  ['Host: mybox.local', 'Origin: http://mybox.local', 'Sec-Fetch-Site: same-origin'],
  ['Host: evil.example'],
];

for (const headers of triggerers) {
  test(`P13 P27 a stranger triggers nothing, whatever is allowed: ${headers.join(', ')}`, async () => {
    const friends = ['http://evil.example', 'http://localhost:1'];
    for (const cors of [false, true, friends]) {
      await using other = await start({ ...options, cors, allowedHosts: ['mybox.local'] });
      using stream = await openStream(`http://localhost:${other.port}/__events`);
      await stream.next('hello');
      for (const type of ['reload', 'css', 'failure', 'clock', 'open']) {
        const asked = { headers, port: other.port, shared: true };
        const answer = await ask(`POST /__events/${type} HTTP/1.1`, asked);
        assert.is(statusOf(answer), 403, type);
      }
      other.send('done');
      await stream.next('done');
      const heard = stream.events.map(({ type }) => type).filter((type) => !/hello|ping/.test(type));
      assert.equal(heard, ['done']);
    }
  });
}

test('P13 GET and HEAD trigger nothing, other methods neither', async () => {
  for (const type of ['reload', 'css', 'failure', 'clock', 'open']) {
    for (const method of ['GET', 'HEAD']) {
      assert.is(statusOf(await ask(`${method} /__events/${type} HTTP/1.1`)), 404);
    }
    for (const method of writes.filter((method) => method !== 'POST')) {
      const answer = await ask(`${method} /__events/${type} HTTP/1.1`);
      assert.is(statusOf(answer), 405);
      assert.is(fieldOf(answer, 'allow'), 'POST');
    }
  }
});

test('P13 another machine triggers nothing, where the server is open to the network', async () => {
  await using open = await start({ ...options, host: '0.0.0.0' });
  const outer = Object.values(networkInterfaces())
    .flatMap((entries) => entries ?? [])
    .find(({ family, internal }) => family === 'IPv4' && !internal);
  const line = 'POST /__events/reload HTTP/1.1\r\nConnection: close\r\nHost: ';
  using local = raw(open.port, `${line}localhost\r\n\r\n`);
  assert.is(statusOf(await local.end()), 200);
  if (!outer) return;
  using itself = raw(open.port, `${line}${outer.address}\r\n\r\n`, outer.address);
  assert.is(statusOf(await itself.end()), 200);
  // The other end is no address of loopback, and not the one that was called: as from another machine.
  const socket = connect({ port: open.port, host: '127.0.0.1', localAddress: outer.address });
  const answer = new Promise((resolve) => socket.setEncoding('utf8').once('data', resolve));
  socket.write(`${line}localhost\r\nOrigin: http://localhost\r\n\r\n`);
  assert.is(statusOf(String(await within('the answer', answer))), 403);
  socket.destroy();
});

test('P13 an upgrade is a plain request, and opens nothing', async () => {
  for (const [protocol, door] of [
    ['websocket', '/'],
    ['websocket', '/__events/client.js'],
    ['h2c', '/a.txt'],
    ['x'.repeat(100), '/nothing'],
  ] as const) {
    const headers = [
      `Upgrade: ${protocol}`,
      'Connection: Upgrade',
      'Sec-WebSocket-Key: x',
      'Sec-WebSocket-Version: 13',
    ];
    const answer = await ask(`GET ${door} HTTP/1.1`, { headers });
    assert.is.not(statusOf(answer), 101, door);
  }
  const tunnel = raw(port, 'CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n');
  assert.not.match(await tunnel.end(), / 200 /);
});

test('P14 the proxy asks for Host and Origin like the rest, and has one upstream', async () => {
  const got: IncomingMessage[] = [];
  const back = createServer((req, res) => {
    got.push(req);
    res.setHeader('Access-Control-Allow-Origin', '*').setHeader('Timing-Allow-Origin', '*');
    res.setHeader('Cross-Origin-Resource-Policy', 'cross-origin').setHeader('Keep-Alive', 'timeout=99');
    res.end(`back end: ${req.url}`);
  });
  back.on('upgrade', (req, socket) => {
    got.push(req);
    socket.end('HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n');
  });
  back.listen(0, '127.0.0.1');
  await once(back, 'listening');
  try {
    const target = `http://127.0.0.1:${(back.address() as AddressInfo).port}`;
    await using other = await start({ ...options, proxy: { '/api': target } });
    const to = { port: other.port };
    const socket = [
      'Upgrade: websocket',
      'Connection: Upgrade',
      'Sec-WebSocket-Key: x',
      'Sec-WebSocket-Version: 13',
    ];
    const refused: [line: string, headers: string[], status: number[]][] = [
      ['GET /api/x HTTP/1.1', ['Host: evil.example'], [403]],
      ['POST /api/x HTTP/1.1', ['Host: evil.example', 'X-Forwarded-Host: localhost'], [403]],
      ['GET /api/x HTTP/1.1', ['Host: localhost', 'Host: localhost'], [400]],
      ['GET /api/x HTTP/1.1', [...socket, 'Host: evil.example'], [403]],
      ['GET /api/x HTTP/1.1', [...socket, 'Origin: http://evil.example'], [403]],
      ['GET /api/x HTTP/1.1', [...socket, 'Origin: null'], [403]],
      ['GET /api/x HTTP/1.1', [...socket, 'Sec-Fetch-Site: cross-site'], [403]],
      ['GET /elsewhere HTTP/1.1', socket, [404]],
      [`GET ${target}/api/x HTTP/1.1`, [], [400, 404]],
      ['GET //127.0.0.1/api/x HTTP/1.1', [], [400, 404]],
      ['GET /api/../x HTTP/1.1', [], [400, 404]],
      ['GET /api/%2e%2e/x HTTP/1.1', [], [400, 404]],
      ['GET /api/..%2fx HTTP/1.1', [], [400, 404]],
      ['TRACE /api/x HTTP/1.1', [], [405]],
    ];
    for (const [line, headers, status] of refused) {
      const answer = await ask(line, { ...to, headers });
      assert.ok(status.includes(statusOf(answer)), `${line} ${headers}: ${answer}`);
    }
    assert.is(got.length, 0, 'nothing of this reached the back end');
    const headers = [
      'Origin: http://evil.example',
      'X-Forwarded-Host: evil.example',
      'X-Forwarded-For: 10.0.0.1',
      'X-Original-URL: /admin',
      'Proxy: http://evil.example',
      'TE: trailers',
    ];
    const answer = await ask('GET /api/x?y HTTP/1.1', { ...to, headers });
    assert.is(bodyOf(answer).trim(), 'back end: /api/x?y');
    assert.not.match(fieldOf(answer, 'keep-alive') ?? '', /99/);
    const told = got[0]?.headers ?? {};
    assert.is(told.host, new URL(target).host);
    assert.is(told['x-forwarded-host'], 'localhost');
    assert.is(told['x-forwarded-for'], '127.0.0.1');
    assert.equal([told['x-original-url'], told.proxy, told.te], [undefined, undefined, undefined]);
    assert.is(told.origin, 'http://evil.example', 'the back end may judge for itself');
    using page = raw(
      other.port,
      `GET /api/ws HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\n${socket.join('\r\n')}\r\n\r\n`,
    );
    await page.match(/^HTTP\/1\.1 101 /);
  } finally {
    back.close();
    back.closeAllConnections();
  }
});

// What comes back

const reflected = [
  '/<script>alert(1)</script>',
  `/"><img src=x onerror=alert(1)>`,
  `/'onmouseover='alert(1)`,
  '/%3Cscript%3Ealert(1)%3C/script%3E',
  '/%22%3E%3Cimg%20src=x%20onerror=alert(1)%3E',
  '/docs/%27%22%3E%3Csvg%20onload=alert(1)%3E',
  '/docs?%22%3E%3Cscript%3Ealert(1)%3C/script%3E',
  '/docs/?"><script>alert(1)</script>',
  '/nothing?"><script>alert(1)</script>#<script>',
  '/?"><script>alert(1)</script>',
  '/\u202egpj.exe',
];

for (const path of reflected) {
  test(`P15 nothing of ${JSON.stringify(path)} is in a page as it came`, async () => {
    const evil = [
      'User-Agent: <script>alert(1)</script>',
      'Referer: http://localhost/"><script>alert(1)</script>',
    ];
    for (const headers of [navigates, [...navigates, ...evil]]) {
      const body = bodyOf(await ask(`GET ${path} HTTP/1.1`, { headers }));
      assert.not.match(body, /<script>|<svg|<img|["']on\w+=|\u202e/);
    }
  });
}

test('P15 a listing shows names as text, and its links stay in the folder', async () => {
  const answer = await ask('GET /docs/ HTTP/1.1', { headers: navigates });
  assert.not.match(answer, /<img|onerror=alert\(1\)>/);
  assert.match(answer, /href="\.\/javascript%3Aalert\(1\)"/);
  const hrefs = [...answer.matchAll(/href="([^"]*)"/g)].map(([, href]) => href ?? '');
  for (const href of hrefs) assert.match(href, /^(?:\.{0,2}\/)/);
});

test('P15 pages of our own let in no script but those of this server', async () => {
  for (const path of ['/nothing', '/docs/', '/%zz']) {
    const policy = fieldOf(await ask(`GET ${path} HTTP/1.1`), 'content-security-policy') ?? '';
    assert.match(policy, /default-src 'none'; script-src 'self'/, path);
    assert.not.match(policy, /unsafe|https?:|\*/, path);
  }
});

test('P15 P18 an error is a constant 500, told to the developer alone', async () => {
  await using other = await start({
    ...options,
    middleware: [
      (req, res, next) => {
        if (req.url === '/throws') throw new Error(`${KEY} ${disk.path}`);
        if (req.url === '/late') return void setImmediate(() => next(new Error(KEY)));
        if (req.url === '/bad-header') res.setHeader('x', 'a\nb');
        next();
      },
    ],
  });
  const told: Error[] = [];
  other.on('error', (error) => told.push(error));
  for (const path of ['/throws', '/late', '/bad-header']) {
    const answer = await ask(`GET ${path} HTTP/1.1`, { port: other.port });
    assert.is(statusOf(answer), 500);
    assert.is(bodyOf(answer), 'Internal Server Error\n');
  }
  assert.is(told.length, 3);
});

test('P16 a redirect is to a path on this host, and nothing splits a header', async () => {
  for (const [target, location] of [
    ['/docs', '/docs/'],
    ['/docs?a=b', '/docs/?a=b'],
    ['/docs?x=%0d%0aX-Injected:%201', '/docs/?x=%0d%0aX-Injected:%201'],
    ['/%64ocs', '/docs/'],
  ] as const) {
    const answer = await ask(`GET ${target} HTTP/1.1`, { headers: ['X-Forwarded-Host: evil.example'] });
    assert.is(statusOf(answer), 301, target);
    assert.is(fieldOf(answer, 'location'), location);
  }
  for (const target of [
    '//evil.example/docs',
    '//evil.example/%2e%2e/docs',
    '/\\evil.example/docs',
    '/%5cevil.example/docs',
    '/%2fevil.example/docs',
    '/.//evil.example/docs',
    '/docs/..//evil.example',
    '/docs%0d%0aX-Injected:%201',
    '/%E5%98%8A%E5%98%8DX-Injected:1',
    '/docs%0aX-Injected: 1',
  ]) {
    const answer = await ask(`GET ${target} HTTP/1.1`);
    assert.ok(statusOf(answer) >= 400, target);
    assert.is(fieldOf(answer, 'location'), undefined, target);
  }
});

test('P17 no file name, query or last event id forges an event', async () => {
  const evil = 'a\nevent: evil\ndata: {}\n\nid: 7\rretry: 1.txt';
  const query = 'lastEventId=x%0aevent:evil%0adata:x';
  using stream = raw(
    port,
    `GET /__events?${query} HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: y: event: evil\r\n\r\n`,
  );
  await stream.match(/event: hello\n/);
  writeFileSync(disk.file(`site/${evil}`), 'x');
  const [block] = await stream.match(/event: reload\nid: \S+\ndata: {"paths":\["[^\n]*%0[^\n]*\n\n/);
  assert.match(
    block,
    /data: {"paths":\["\/a%0Aevent:%20evil%0Adata:%20%7B%7D%0A%0Aid:%207%0Dretry:%201\.txt"\]}\n\n$/,
  );
  assert.not.match(stream.received(), /^(?:event: ?evil|retry: 1|id: 7)/m);
  assert.not.ok(stream.received().includes(disk.path));
  unlinkSync(disk.file(`site/${evil}`));
});

const garbage = [
  ['nonsense', 'nonsense\r\n\r\n'],
  ['null bytes', '\0\0\0\0\r\n\r\n'],
  ['a TLS hello', '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n'],
  ['HTTP/2', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'],
  ['another version', 'GET / HTTP/9.9\r\nHost: localhost\r\n\r\n'],
  ['no version', 'GET / \r\nHost: localhost\r\n\r\n'],
  ['a lower-case method', 'get / HTTP/1.1\r\nHost: localhost\r\n\r\n'],
  ['an unknown method', 'STEAL / HTTP/1.1\r\nHost: localhost\r\n\r\n'],
  ['a header without colon', 'GET / HTTP/1.1\r\nHost: localhost\r\nbroken\r\n\r\n'],
  ['a folded header', 'GET / HTTP/1.1\r\nHost: localhost\r\nX: a\r\n b\r\n\tc\r\nConnection: close\r\n\r\n'],
  ['a space before the colon', 'GET / HTTP/1.1\r\nHost : localhost\r\n\r\n'],
  ['a null byte in a header', 'GET / HTTP/1.1\r\nHost: localhost\r\nX: a\0b\r\n\r\n'],
  ['a bare line feed', 'GET / HTTP/1.1\nHost: localhost\n\n'],
  ['a bare carriage return', 'GET / HTTP/1.1\rHost: localhost\r\r'],
  ['bytes that are not ASCII', 'GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n'],
  ['bad percent-encoding', 'GET /%E0%A4%A HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n'],
  ['a length that is none', 'POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n'],
  [
    'a strange expectation',
    'GET / HTTP/1.1\r\nHost: localhost\r\nExpect: the-worst\r\nConnection: close\r\n\r\n',
  ],
  [
    'an expectation for a strange host',
    'GET / HTTP/1.1\r\nHost: evil.example\r\nExpect: x\r\nConnection: close\r\n\r\n',
  ],
  ['an URL too long', `GET /${'a'.repeat(20_000)} HTTP/1.1\r\nHost: localhost\r\n\r\n`],
  ['a header too long', `GET / HTTP/1.1\r\nHost: localhost\r\nX: ${'a'.repeat(20_000)}\r\n\r\n`],
] as const;

for (const [name, text] of garbage) {
  test(`P18 P23 ${name} is answered, and the connection closed`, async () => {
    using client = raw(port);
    client.socket.write(text, 'latin1');
    client.socket.end(); // what is half a request ends there
    const answer = await client.end();
    if (answer !== '') checkAnswer(answer, name);
    if (name.endsWith('too long')) assert.ok([414, 431].includes(statusOf(answer)), answer);
    else if (name === 'a folded header') assert.ok([200, 400].includes(statusOf(answer)), answer);
    else if (answer !== '' && !name.includes('expectation')) assert.ok(statusOf(answer) >= 400, answer);
    assert.not.match(answer, /evil|the-worst/);
    assert.is(bodyOf(await ask('GET /a.txt HTTP/1.1')), 'a file');
  });
}

test('P18 names of the language are names like others', async () => {
  for (const name of ['__proto__', 'constructor', 'toString', 'hasOwnProperty', '__proto__/x', 'prototype']) {
    for (const path of [`/${name}`, `/m/${name}`, `/__events/${name}`, `/__events/${name}.js`]) {
      assert.is(statusOf(await ask(`GET ${path} HTTP/1.1`)), 404, path);
    }
    await ask('GET / HTTP/1.1', { headers: [`${name.replace('/', '')}: x`] });
  }
});

const smuggled = 'GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n';
const unclear = [
  ['TE and CL', 'Transfer-Encoding: chunked\r\nContent-Length: 4', `0\r\n\r\n${smuggled}`],
  ['CL and TE', 'Content-Length: 4\r\nTransfer-Encoding: chunked', `0\r\n\r\n${smuggled}`],
  ['two CLs', 'Content-Length: 0\r\nContent-Length: 5', smuggled],
  ['two CLs in one', 'Content-Length: 0, 5', smuggled],
  ['a strange TE', 'Transfer-Encoding: xchunked', smuggled],
  ['a TE after chunked', 'Transfer-Encoding: chunked, identity', `0\r\n\r\n${smuggled}`],
  ['a TE with a space', 'Transfer-Encoding : chunked', `0\r\n\r\n${smuggled}`],
  ['a TE with a tab', 'Transfer-Encoding:\x0bchunked', `0\r\n\r\n${smuggled}`],
  ['a hexadecimal CL', 'Content-Length: 0x5', smuggled],
  ['a signed CL', 'Content-Length: +5', smuggled],
  ['a chunk that is none', 'Transfer-Encoding: chunked', `zz\r\n\r\n${smuggled}`],
] as const;

for (const [name, headers, body] of unclear) {
  test(`P20 ${name} is 400 and ends the connection`, async () => {
    for (const method of ['POST', 'GET']) {
      using client = raw(port, `${method} / HTTP/1.1\r\nHost: localhost\r\n${headers}\r\n\r\n${body}`);
      const answer = await client.end();
      assert.not.match(answer, /smuggled/);
      assert.match(answer, / 400 Bad Request\r\n/);
      assert.ok((answer.match(/^HTTP\/1\.1 /gm) ?? []).length <= 2, answer);
    }
  });
}

test('P20 what is promised is sent: lengths, no body where there is none, and ranges that multiply nothing', async () => {
  for (const path of ['/', '/a.txt', '/docs/', '/nothing', '/__events/client.js', '/docs']) {
    const answer = await ask(`GET ${path} HTTP/1.1`);
    assert.is(Buffer.byteLength(bodyOf(answer)), Number(fieldOf(answer, 'content-length')), path);
    const head = await ask(`HEAD ${path} HTTP/1.1`);
    assert.is(bodyOf(head), '', path);
    const length = fieldOf(head, 'content-length'); // may be left out
    if (length !== undefined) assert.is(length, fieldOf(answer, 'content-length'), path);
  }
  for (const [range, status] of [
    ['bytes=5-2', 200],
    ['bytes=x', 200],
    ['bytes=9999-', 416],
    [`bytes=${Array(1000).fill('0-').join(',')}`, 206], // they are one
    ['bytes=99999999999999999999999-', 416],
  ] as const) {
    const answer = await ask('GET /a.txt HTTP/1.1', { headers: [`Range: ${range}`] });
    assert.is(statusOf(answer), status, range.slice(0, 40));
    if (status !== 416) assert.is(bodyOf(answer), 'a file');
  }
});

test('P21 every body has a type', async () => {
  for (const path of [
    '/',
    '/a.txt',
    '/docs/',
    '/nothing',
    '/__events/client.js',
    '/docs',
    '/%zz',
    `/docs/javascript:alert(1)`,
  ]) {
    assert.match(fieldOf(await ask(`GET ${path} HTTP/1.1`), 'content-type') ?? '', /^\w+\/[\w.+-]+/, path);
  }
});

// How it runs

test('P22 it listens on this machine alone; host opens that and nothing else', async () => {
  const outer = Object.values(networkInterfaces())
    .flatMap((entries) => entries ?? [])
    .filter(({ internal, family }) => !internal && family === 'IPv4');
  await using open = await start({ ...options, host: true });
  for (const { address } of outer) {
    using outside = raw(port, 'GET / HTTP/1.0\r\n\r\n', address);
    assert.is(await outside.end(), '', address);
    for (const [headers, status] of [
      [`Host: ${address}:${open.port}`, 200],
      ['Host: evil.example', 403],
      ['Host: mybox.local', 403],
    ] as const) {
      using client = raw(
        open.port,
        `GET /a.txt HTTP/1.1\r\n${headers}\r\nConnection: close\r\n\r\n`,
        address,
      );
      assert.is(statusOf(await client.end()), status, headers);
    }
  }
  const to = { port: open.port };
  assert.is(statusOf(await ask('GET /.env HTTP/1.1', to)), 404);
  assert.is(statusOf(await ask('GET /out.txt HTTP/1.1', to)), 404);
  assert.is(statusOf(await ask('GET /__events HTTP/1.1', { ...to, headers: ['Origin: null'] })), 403);
});

test('P23 half a request holds up nobody, and is given up in a minute', async () => {
  const halves = [
    '',
    'GET / HT',
    'GET / HTTP/1.1\r\nHost: loc',
    'POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\nabc',
    'POST /a.txt HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab',
    'GET /__events HTTP/1.1\r\nHost: localhost\r\n\r\n', // and never reads on
  ];
  const clients = Array.from({ length: 120 }, (_, i) => raw(port, halves[i % halves.length]));
  try {
    for (const { socket } of clients) socket.pause();
    await until('the streams to be open', () => server.clients === 20);
    for (let i = 0; i < 20; i++) {
      const answer = await within('an answer', ask('GET /a.txt HTTP/1.1'), 2_000);
      assert.is(bodyOf(answer), 'a file');
    }
    assert.ok('headersTimeout' in server.server);
    const { headersTimeout, requestTimeout } = server.server;
    for (const ms of [headersTimeout, requestTimeout]) assert.ok(ms > 0 && ms <= 60_000);
  } finally {
    for (const { socket } of clients) socket.destroy();
  }
  await until('the streams to be gone', () => server.clients === 0);
});

test('P24 a thousand streams cut at once leave no client and no connection, and a new one opens', async () => {
  const streams: ReturnType<typeof raw>[] = [];
  for (let i = 0; i < 10; i++) {
    for (let n = 0; n < 100; n++)
      streams.push(raw(port, 'GET /__events HTTP/1.1\r\nHost: localhost\r\n\r\n'));
    await until('the streams to be open', () => server.clients === streams.length, 30_000);
  }
  for (const { socket } of streams) socket.resetAndDestroy();
  server.reload();
  await until('no client', () => server.clients === 0, 30_000);
  const connections = () =>
    new Promise<number>((resolve) => server.server.getConnections((_, count) => resolve(count)));
  await until('no connection', async () => (await connections()) === 0);
  using fresh = await openStream(`http://127.0.0.1:${port}/__events`);
  await fresh.next('hello');
  server.reload();
  await fresh.next('reload');
});

for (const [name, line, headers] of [
  ['localhost', 'GET /a.txt HTTP/1.1', [`Host: localhost:${port}`]],
  ['localhost in capitals', 'GET /a.txt HTTP/1.1', ['Host: LocalHost']],
  ['127.0.0.1', 'GET /a.txt HTTP/1.1', [`Host: 127.0.0.1:${port}`]],
  ['[::1]', 'GET /a.txt HTTP/1.1', [`Host: [::1]:${port}`]],
  ['a name below localhost', 'GET /a.txt HTTP/1.1', ['Host: app.localhost']],
  ['an address of the network', 'GET /a.txt HTTP/1.1', ['Host: 192.168.1.5:8080']],
  [
    'a link on another site',
    'GET / HTTP/1.1',
    [...navigates, 'Sec-Fetch-Site: cross-site', 'Referer: https://a.example/'],
  ],
  [
    'a frame on another site',
    'GET / HTTP/1.1',
    ['Sec-Fetch-Dest: iframe', 'Sec-Fetch-Mode: navigate', 'Sec-Fetch-Site: cross-site'],
  ],
  ['a percent sign and an umlaut', 'GET /100%25%20%C3%BC.txt HTTP/1.1', []],
  ['a letter encoded without need', 'GET /%61.txt HTTP/1.1', []],
  ['a mount', 'GET /m/m.txt HTTP/1.1', []],
] as const) {
  test(`P25 ordinary use works: ${name}`, async () => {
    assert.is(statusOf(await ask(line, { headers })), 200);
  });
}

test('P25 the stream opens for its own pages and for programs', async () => {
  for (const headers of [
    'Host: localhost',
    `Host: localhost:${port}\r\nOrigin: http://localhost:${port}\r\nSec-Fetch-Site: same-origin`,
    'Host: 192.168.1.5:8080\r\nOrigin: http://192.168.1.5:8080',
    'Host: localhost\r\nSec-Fetch-Site: none',
  ]) {
    using stream = raw(port, `GET /__events HTTP/1.1\r\n${headers}\r\n\r\n`);
    await stream.match(/event: hello\n/);
    checkAnswer(stream.received(), headers);
  }
});

test('P26 what changes outside, or under a hidden name, is never announced', async () => {
  using stream = await openStream(`http://127.0.0.1:${port}/__events`);
  await stream.next('hello');
  disk.write('outside/secret.txt', `${KEY} 2`); // there is a link to its folder
  disk.write('secret.txt', `${KEY} 2`);
  disk.write('site/.env', `${KEY} 2`);
  mkdirSync(disk.file('outside/new'));
  disk.write('site/sentinel.txt', 'x');
  const { data } = await stream.next('reload');
  assert.is(data, '{"paths":["/sentinel.txt"]}');
});

test('after all of this the server has nothing to complain of', async () => {
  assert.equal(errors, []);
  await until('no client', () => server.clients === 0);
});

test.run();
