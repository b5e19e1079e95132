// The worked example of "live-sse/sse" in a browser: the page of test/sites/clock, with its own server and with others.

import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Channel, type ChannelOptions, createChannel } from '../../src/sse.ts';
import { until } from '../harness.ts';
import { type Browser, engine, except, launch } from './engine.ts';

const html = readFileSync(new URL('../sites/clock/index.html', import.meta.url));
const script = fileURLToPath(new URL('../sites/clock/server.js', import.meta.url));

let browser: Browser | undefined;
test.before(async () => {
  browser = await launch();
});
test.after(async () => {
  await browser?.[Symbol.asyncDispose]();
});

interface Served extends AsyncDisposable {
  readonly channel: Channel;
  readonly origin: string;
  /** How often a browser asked for the stream, and with which Last-Event-ID. */
  readonly asked: readonly (string | undefined)[];
  /** Cuts the newest stream, as a network that fails would. */
  cut(): void;
}

/** The page and a channel, as server.js has them, without the clock. */
async function serve(options: ChannelOptions = {}): Promise<Served> {
  const channel = createChannel({ boot: 'b', retry: 500, ...options });
  const asked: (string | undefined)[] = [];
  let newest: IncomingMessage | undefined;
  const server = createServer((req, res) => {
    if (req.url === '/events') {
      newest = req;
      const id = req.headers['last-event-id'];
      asked.push(typeof id === 'string' ? Buffer.from(id, 'latin1').toString() : undefined);
      channel.connect(req, res);
    } else if (req.url?.startsWith('/?') || req.url === '/') {
      res.setHeader('Content-Type', 'text/html').end(html);
    } else res.writeHead(404).end();
  });
  const { port } = await listen(server);
  return {
    channel,
    asked,
    cut: () => newest?.socket.destroy(),
    origin: `http://127.0.0.1:${port}`,
    async [Symbol.asyncDispose]() {
      await channel.close();
      server.closeAllConnections();
      server.close();
    },
  };
}

const listen = (server: Server) =>
  new Promise<AddressInfo>((resolve) =>
    server.listen(0, '127.0.0.1', () => resolve(server.address() as AddressInfo)),
  );

interface Tab extends AsyncDisposable {
  /** Waits for the page to list a line that matches, and gives all its lines. */
  lines(pattern: RegExp): Promise<string[]>;
}

async function open(url: string): Promise<Tab> {
  assert.ok(browser);
  const page = await browser.newPage();
  await page.goto(url);
  const lines = () => page.$$eval('li', (items) => items.map((item) => item.textContent ?? ''));
  return {
    lines: (pattern) =>
      until(`a line that matches ${pattern}`, async () => {
        const all = await lines();
        return all.some((line) => pattern.test(line)) && all;
      }),
    [Symbol.asyncDispose]: () => page.close(),
  };
}

test('server.js serves the folder, sends the time, counts the consumers and says good-bye', async () => {
  const child = spawn(process.execPath, [script, '0']);
  const output = collect(child);
  try {
    const [url] = await until('the address', () => output().match(/http:\S+/) ?? undefined);
    await using first = await open(url);
    await first.lines(/^message .*: 这是消息$/);
    await until('a consumer', () => output().includes('\n1 consumers\n'));
    const second = await open(url);
    await until('two consumers', () => output().includes('\n2 consumers\n'));
    await second[Symbol.asyncDispose]();
    await until('one again', () => output().includes('\n2 consumers\n1 consumers\n'));
    await first.lines(/^time \w+-\d+: \d+:\d\d:\d\d [AP]M$/);
    child.kill('SIGINT');
    const lines = await first.lines(/^close/);
    assert.is(lines.at(-1), 'close: 再见, readyState 2');
    await until('the exit', () => child.exitCode !== null);
    assert.is(child.exitCode, 0);
  } finally {
    child.kill('SIGKILL');
  }
});

function collect(child: ChildProcess): () => string {
  let output = '';
  const add = (chunk: Buffer) => {
    output += chunk;
  };
  child.stdout?.on('data', add);
  child.stderr?.on('data', add);
  return () => output;
}

test('text and JSON arrive as they were sent', async () => {
  await using served = await serve();
  await using tab = await open(served.origin);
  await tab.lines(/^open$/);
  served.channel.send(undefined, '这是消息 😀\0');
  served.channel.send('time', 'a\nb\r\nc', { id: '订单 é' });
  served.channel.send(undefined, { text: 'a\r\nb\0' });
  served.channel.send(undefined, '');
  served.channel.send(undefined, 'x\n\nevent: close\ndata: forged');
  assert.equal(await tab.lines(/forged/), [
    'open',
    // Firefox leaves it out, against the standard.
    `message b-1: 这是消息 😀${engine === 'firefox' ? '' : '\0'}`,
    'time 订单 é: a\nb\nc',
    'message b-3: {"text":"a\\r\\nb\\u0000"}',
    'message b-4: ',
    'message b-5: x\n\nevent: close\ndata: forged',
  ]);
});

const noPlace = 'it takes the id of an event only, against the standard';

except({ firefox: noPlace, webkit: noPlace }, test)(
  'a page that was cut off before it heard anything comes back and hears what it missed',
  async () => {
    await using served = await serve();
    await using tab = await open(served.origin);
    await tab.lines(/^open$/);
    served.cut();
    await until('no client', () => served.channel.clients === 0);
    served.channel.send('time', 'missed');
    await tab.lines(/^time .*: missed$/);
    assert.equal(served.asked, [undefined, 'b-0']);
  },
);

test('a page that was cut off comes back and hears what it missed, once', async () => {
  await using served = await serve();
  await using tab = await open(served.origin);
  await tab.lines(/^open$/);
  served.channel.send('time', 'first');
  await tab.lines(/first$/);
  for (const [i, id] of [undefined, '订单 №2', undefined].entries()) {
    served.cut();
    await until('no client', () => served.channel.clients === 0);
    served.channel.send('time', `${i}`, id === undefined ? {} : { id });
    await tab.lines(new RegExp(`^time .*: ${i}$`));
  }
  assert.equal(served.asked, [undefined, 'b-1', 'b-2', '订单 №2']);
  assert.equal(await tab.lines(/: 2$/), [
    'open',
    'time b-1: first',
    'error: readyState 0',
    'open',
    'time b-2: 0',
    'error: readyState 0',
    'open',
    'time 订单 №2: 1',
    'error: readyState 0',
    'open',
    'time b-4: 2',
  ]);
});

test('retry() sets how long the browser waits', async () => {
  await using served = await serve();
  await using tab = await open(served.origin);
  await tab.lines(/^open$/);
  served.channel.on('connect', (client) => client.send('time', 'again'));
  served.channel.retry(1500);
  served.channel.send('time', 'told');
  await tab.lines(/told/);
  const start = performance.now();
  served.cut();
  await tab.lines(/again/);
  assert.ok(performance.now() - start > 1400);
});

test('a page of another origin listens if `cors` lists it; a third is refused', async () => {
  await using friend = await serve();
  await using stranger = await serve();
  await using served = await serve({ cors: [friend.origin] });
  const from = `/?from=${encodeURIComponent(`${served.origin}/events`)}`;
  await using admitted = await open(friend.origin + from);
  await using refused = await open(stranger.origin + from);
  await admitted.lines(/^open$/);
  assert.equal(await refused.lines(/^error/), ['error: readyState 2']);
  served.channel.send(undefined, '这是消息');
  assert.equal(await admitted.lines(/^message/), ['open', 'message b-1: 这是消息']);
  assert.is(served.channel.clients, 1);
});

test('credentials: a page of another origin may use them if `cors` says so', async () => {
  await using friend = await serve();
  await using served = await serve({ cors: { origins: [friend.origin], credentials: true } });
  await using strict = await serve({ cors: [friend.origin] });
  assert.ok(browser);
  const page = await browser.newPage();
  await page.goto(friend.origin);
  const opens = (url: string) =>
    page.evaluate(
      (url) =>
        new Promise<boolean>((resolve) => {
          const source = new EventSource(url, { withCredentials: true });
          source.onopen = () => resolve(true);
          source.onerror = () => resolve(false);
        }),
      `${url}/events`,
    );
  assert.is(await opens(served.origin), true);
  assert.is(await opens(strict.origin), false);
  await page.close();
});

test('end(): the browser comes back once, is answered 204, and stops', async () => {
  await using served = await serve();
  await using tab = await open(served.origin);
  await tab.lines(/^open$/);
  served.channel.end();
  assert.equal(await tab.lines(/readyState 2/), ['open', 'error: readyState 0', 'error: readyState 2']);
  assert.is(served.asked.length, 2);
});

test('an agreed close event: the browser does not come back', async () => {
  await using served = await serve();
  await using tab = await open(served.origin);
  await tab.lines(/^open$/);
  served.channel.send('close', '再见');
  assert.equal(await tab.lines(/^close/), ['open', 'close: 再见, readyState 2']);
  await until('no client', () => served.channel.clients === 0);
  // Another page that comes and goes and comes back takes longer than this one would have needed to come back.
  await using other = await open(served.origin);
  await other.lines(/^open$/);
  served.channel.end();
  await other.lines(/readyState 2/);
  assert.is(served.asked.length, 3);
});

test.run();
