// Random request lines, headers, events and file names against the whole server: it never crashes or hangs, gives out no
// byte that is not to be given, and answers on. Bounded in time; another seed: FUZZ_SEED=7 tsx test/fuzz.test.ts

import { symlinkSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { start } from '../src/index.ts';
import { folder, get, openStream, until, within } from './harness.ts';

/** Milliseconds for each of the tests. A failure prints its seed and the smallest case that fails. */
const TIME = 3_500;
const settings = {
  seed: Number(process.env.FUZZ_SEED ?? 42),
  numRuns: 800,
  interruptAfterTimeLimit: TIME,
  markInterruptAsFailure: false,
};

/** Tries cases until the time is over; fast-check leaves alone the one that is under way then, and it has to hold, too. */
async function holds<T>(
  cases: fc.Arbitrary<T>,
  check: (it: T) => Promise<void>,
  more: Partial<typeof settings> = {},
): Promise<void> {
  let last: Promise<void> | undefined;
  const property = fc.asyncProperty(cases, (it) => {
    last = check(it);
    return last;
  });
  await fc.assert(property, { ...settings, ...more });
  await last;
}

const KEY = 'KEY-that-nobody-may-read';
const disk = folder({
  'site/index.html': '<!doctype html><p>home',
  'site/a.txt': 'a file',
  'site/docs/b.css': 'b{}',
  'site/.env': KEY,
  'site/docs/.git/config': KEY,
  'site/a.pem': KEY,
  'mounted/.env': KEY,
  'mounted/m.txt': 'm',
  'site-too/secret.txt': KEY,
  'secret.txt': KEY,
});
symlinkSync('..', disk.file('site/up'));
symlinkSync('../secret.txt', disk.file('site/link'));
symlinkSync('loop', disk.file('site/loop'));
const server = await start({
  root: disk.file('site'),
  port: 0,
  mounts: { '/m': disk.file('mounted') },
  single: true,
});
const errors: Error[] = [];
server.on('error', (error) => errors.push(error));

test.after(async () => {
  await server.close();
  disk[Symbol.dispose]();
});

/** Sends these bytes, and nothing after them; gives all that comes back until the connection ends. */
function exchange(text: string): Promise<string> {
  const answer = new Promise<string>((resolve) => {
    const socket = connect(server.port, '127.0.0.1');
    let received = '';
    socket.setEncoding('latin1');
    socket.on('data', (chunk: string) => {
      received += chunk;
    });
    socket.on('error', () => {}); // is followed by `close`
    socket.on('close', () => resolve(received));
    socket.end(text, 'latin1');
  });
  return within(`the end of the answer to ${JSON.stringify(text)}`, answer, 5_000);
}

function check(answer: string): void {
  assert.not.ok(answer.includes(KEY));
  assert.not.ok(answer.includes(disk.path));
  assert.not.match(answer, /^HTTP\/1\.1 5|^x-injected/im);
  assert.match(answer, /^(?:HTTP\/1\.1 \d\d\d .*\r\n|$)/);
}

async function stillAnswers(): Promise<void> {
  assert.is((await get(server.url, '/a.txt')).text, 'a file');
  assert.equal(errors, []);
  await until('no client', () => server.clients === 0);
}

const odd = [
  ...[
    '/',
    '//',
    '\\',
    '.',
    '..',
    '...',
    '%',
    '?',
    '#',
    '*',
    '@',
    ':',
    ' ',
    '%2e',
    '%2e%2e',
    '%2f',
    '%5c',
    '%00',
    '%0d%0a',
  ],
  ...[
    '%252e',
    '%25',
    '%c0%ae',
    '%e0%80%ae',
    '%ff',
    '%ef%bc%8e',
    '\x00',
    '\x7f',
    '\xff',
    '\xc3\xa9',
    '%3f',
    '%23',
    '~',
    ';',
  ],
  ...[
    'secret.txt',
    '.env',
    'site-too',
    'a.txt',
    'a.pem',
    'docs',
    '.git',
    'config',
    'm',
    'up',
    'link',
    'loop',
    '__events',
  ],
  ...[
    'client.js',
    'index.html',
    'etc/passwd',
    'localhost',
    'http:',
    '@fs',
    '__proto__',
    'lastEventId=1',
    disk.path,
  ],
];
const text = fc.string({
  unit: fc.integer({ min: 0, max: 255 }).map((code) => String.fromCharCode(code)),
  maxLength: 12,
});
const piece = fc.oneof({ weight: 8, arbitrary: fc.constantFrom(...odd) }, { weight: 1, arbitrary: text });
const target = fc
  .tuple(fc.constantFrom('/', '/', '/', '/', ''), fc.array(piece, { maxLength: 8 }), fc.constantFrom('', '/'))
  .map(([start, pieces, separator]) => start + pieces.join(separator));
const method = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.constantFrom('GET', 'GET', 'HEAD', 'POST', 'OPTIONS', 'TRACE', 'CONNECT', 'PROPFIND'),
  },
  { weight: 1, arbitrary: text },
);
const version = fc.oneof(
  { weight: 8, arbitrary: fc.constantFrom('HTTP/1.1', 'HTTP/1.0') },
  { weight: 1, arbitrary: text },
);
/** Several at once, so that one may hold up another. */
const several = <T>(one: fc.Arbitrary<T>) => fc.array(one, { minLength: 1, maxLength: 10 });

test('request lines', async () => {
  const line = fc.tuple(method, target, version, fc.constantFrom('', 'Sec-Fetch-Dest: document\r\n'));
  await holds(several(line), async (lines) => {
    const answers = lines.map(([method, target, version, more]) =>
      exchange(`${method} ${target} ${version}\r\nHost: localhost\r\n${more}Connection: close\r\n\r\n`),
    );
    for (const answer of await Promise.all(answers)) check(answer);
  });
  await stillAnswers();
});

test('headers', async () => {
  const name = fc.oneof(
    {
      weight: 12,
      arbitrary: fc.constantFrom(
        ...[
          'Host',
          'Origin',
          'Referer',
          'Range',
          'If-Range',
          'If-None-Match',
          'If-Modified-Since',
          'If-Match',
          'Accept',
        ],
        ...[
          'Accept-Encoding',
          'Last-Event-ID',
          'Sec-Fetch-Site',
          'Sec-Fetch-Dest',
          'Sec-Fetch-Mode',
          'Content-Length',
        ],
        ...[
          'Transfer-Encoding',
          'Connection',
          'Upgrade',
          'Expect',
          'Content-Type',
          'X-Forwarded-Host',
          'TE',
          '__proto__',
        ],
      ),
    },
    { weight: 1, arbitrary: text },
  );
  const value = fc.oneof(
    {
      weight: 6,
      arbitrary: fc.constantFrom(
        ...[
          'localhost',
          'evil.example',
          '[::1]:1',
          '[',
          'null',
          'http://localhost',
          '*',
          'bytes=0-0',
          'bytes=5-2',
        ],
        ...[
          'bytes=-9',
          'bytes=0-,0-,1-',
          'bytes=99999999999999999999-',
          '"',
          'W/""',
          'Thu, 01 Jan 1970 00:00:00 GMT',
          '',
        ],
        ...[
          'cross-site',
          'same-origin',
          'document',
          'navigate',
          'text/html',
          'gzip',
          '0',
          '5',
          '-1',
          '1e9',
          'chunked',
          'xx',
        ],
        ...[
          'close',
          'upgrade',
          'keep-alive, x',
          'websocket',
          '100-continue',
          'a-1',
          '%0d%0aX-Injected: 1',
          '\rX-Injected: 1',
        ],
      ),
    },
    { weight: 2, arbitrary: text },
    {
      weight: 1,
      arbitrary: fc.string({ unit: fc.constantFrom('9', ',', '-', '=', '"', 'a'), maxLength: 3_000 }),
    },
  );
  const request = fc.record({
    path: fc.constantFrom(
      '/',
      '/a.txt',
      '/docs',
      '/docs/',
      '/x',
      '/__events',
      '/__events/client.js',
      '/m/m.txt',
      '/.env',
    ),
    method: fc.constantFrom('GET', 'GET', 'GET', 'HEAD', 'POST'),
    headers: fc.array(fc.tuple(name, value), { maxLength: 5 }),
    hasHost: fc.boolean(),
    body: fc.oneof(fc.constant(''), text),
  });
  await holds(several(request), async (requests) => {
    const answers = requests.map(({ path, method, headers, hasHost, body }) => {
      const lines = headers.map(([name, value]) => `${name}: ${value}\r\n`).join('');
      return exchange(
        `${method} ${path} HTTP/1.1\r\n${hasHost ? 'Host: localhost\r\n' : ''}${lines}\r\n${body}`,
      );
    });
    for (const answer of await Promise.all(answers))
      check(answer.replace(/^HTTP\/1\.1 100 Continue\r\n\r\n/, ''));
  });
  await stillAnswers();
});

const character = fc.oneof(
  fc.constantFrom(
    '\n',
    '\r',
    '\r\n',
    '\n\n',
    '\0',
    ':',
    ' ',
    'data:',
    'event:',
    'id:',
    'retry:',
    '\u2028',
    '\ufeff',
    'é',
  ),
  fc.string({ unit: 'binary', maxLength: 3 }),
);
const wild = fc.string({ unit: character, maxLength: 12 });

test('fields of events', async () => {
  using stream = await openStream(`http://127.0.0.1:${server.port}/__events`);
  await stream.next('hello');
  const type = fc.oneof(
    fc.string({ unit: fc.constantFrom('a', 'B', '3', ':', '_', '-'), minLength: 1, maxLength: 3 }),
    wild,
  );
  let sent = 0;
  await holds(fc.array(fc.tuple(type, fc.oneof(wild, fc.jsonValue())), { maxLength: 10 }), async (events) => {
    const expected = events.flatMap(([type, data]) => {
      try {
        server.send(type, data);
      } catch (error) {
        assert.instance(error, RangeError);
        return [];
      }
      assert.match(type, /^[A-Za-z0-9:_-]+$/);
      // Line breaks of text arrive as LF; JSON has none.
      const text = typeof data === 'string' ? data.replace(/\r\n?/g, '\n') : JSON.stringify(data);
      return [{ type, data: text }];
    });
    sent += 1;
    server.send('sentinel', sent);
    const received = () => stream.events.filter(({ type }) => type !== 'hello' && type !== 'ping');
    await until('the last of them', () => received().at(-1)?.data === String(sent), 5_000);
    const own = received().map(({ type, data }) => ({ type, data }));
    assert.equal(own.slice(own.length - 1 - expected.length, -1), expected);
    assert.not.match(own.map(({ data }) => data).join('\n'), /\r/);
  });
  stream[Symbol.dispose]();
  await stillAnswers();
});

test('file names', async () => {
  using stream = await openStream(`http://127.0.0.1:${server.port}/__events`);
  await stream.next('hello');
  const part = fc.oneof(
    fc.constantFrom(
      '<script>',
      '"',
      "'",
      '&',
      '%',
      '%2f',
      '#',
      '?',
      '\\',
      ':',
      '.',
      '..',
      '.pem',
      '.html',
      '.css',
      '\n',
      '\u202e',
    ),
    fc.string({ unit: 'binary', maxLength: 4 }),
  );
  const name = fc
    .string({ unit: part, minLength: 1, maxLength: 8 })
    .filter((name) => !/[/\0]/.test(name) && !/^\.{0,2}$/.test(name) && Buffer.byteLength(name) < 200);
  const isRefused = (name: string) => {
    const seen = name.replace(/\p{Cf}/gu, '');
    return /^\.|\.(?:pem|key|p12|pfx)$/i.test(seen) || /[\p{Cc}\\]/u.test(name);
  };
  let round = 0;
  await holds(
    fc.array(name, { maxLength: 5 }),
    async (names) => {
      round += 1;
      for (const name of names) disk.write(`site/names-${round}/${name}`, `content of a file`);
      disk.write(`site/names-${round}/z`, 'x');
      for (const name of names) {
        const { status, text } = await get(server.url, `/names-${round}/${encodeURIComponent(name)}`);
        if (isRefused(name)) assert.ok(status === 400 || status === 404, JSON.stringify(name));
        else assert.equal([status, text.slice(-4)], [200, 'file'], JSON.stringify(name));
        assert.not.ok(text.includes(KEY));
      }
      const listing = await get(server.url, `/names-${round}/`);
      assert.not.match(listing.text, /<script>|\u202e/);
      await until(
        'the event',
        () => stream.events.some(({ data }) => data.includes(`/names-${round}/z"`)),
        5_000,
      );
    },
    { numRuns: 60 },
  );
  for (const { type, data } of stream.events) {
    assert.ok(['hello', 'css', 'reload', 'ping'].includes(type), type);
    const { paths = [] } = JSON.parse(data);
    for (const path of paths) assert.match(path, /^\/[!-~]*$/);
  }
  stream[Symbol.dispose]();
  await stillAnswers();
});

test('after all of this the files are as they were', async () => {
  writeFileSync(disk.file('site/a.txt'), 'another file');
  await until('the new file', async () => (await get(server.url, '/a.txt')).text === 'another file');
});

test.run();
