import { type ChildProcess, spawn } from 'node:child_process';
import { chmodSync, existsSync, readdirSync, readFileSync } from 'node:fs';
import { createServer as createHttpServer } from 'node:http';
import { request } from 'node:https';
import { createServer } from 'node:net';
import { networkInterfaces } from 'node:os';
import { fileURLToPath } from 'node:url';
import { renderUnicodeCompact } from 'uqr';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { folder, freePort, get, isAlive, navigation, openStream, raw, until, within } from './harness.ts';

const cli = fileURLToPath(new URL('../src/cli.ts', import.meta.url));

interface Running extends Disposable {
  readonly child: ChildProcess;
  readonly out: () => string;
  readonly err: () => string;
  /** Resolves with the exit code, within half a minute of being asked for. */
  readonly ended: Promise<number | null>;
  /** The address it prints. */
  url(): Promise<string>;
}

/** Where the commands leave notes of their servers, if nothing else is said: not among those of other programs. */
const notes = folder();
test.after(() => notes[Symbol.dispose]());

function run(args: readonly string[], options: { cwd?: string; env?: NodeJS.ProcessEnv } = {}): Running {
  const env = { ...process.env, XDG_RUNTIME_DIR: notes.path, ...options.env };
  const child = spawn(process.execPath, ['--import', import.meta.resolve('tsx'), cli, ...args], {
    ...options,
    env,
  });
  let out = '';
  let err = '';
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    out += chunk;
  });
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
    err += chunk;
  });
  const ended = new Promise<number | null>((resolve) => child.on('close', resolve));
  return {
    child,
    out: () => out,
    err: () => err,
    get ended() {
      return within('the command to end', ended, 30_000);
    },
    url: () => until('the address', () => /https?:\/\/\S+/.exec(out)?.[0], 20_000),
    [Symbol.dispose]: () => child.kill('SIGKILL'),
  };
}

async function outcome(args: readonly string[], cwd?: string) {
  using running = run(args, cwd === undefined ? {} : { cwd });
  const code = await running.ended;
  return { code, out: running.out(), err: running.err() };
}

test('live-sse serves a folder, says where, logs a change, and ends on Ctrl-C', async () => {
  using site = folder({ 'index.html': '<!doctype html><title>Hi</title>', 'a.css': 'a{}' });
  using running = run([site.path, '--port', '0']);
  const url = await running.url();
  assert.match(url, /^http:\/\/localhost:\d+\/$/);
  assert.match((await get(url, '/', { headers: navigation })).text, /<title>Hi<\/title>/);

  using stream = await openStream(`${url}__events`);
  await stream.next('hello');
  site.write('a.css', 'a{color:red}');
  assert.is((await stream.next('css')).data, '{"paths":["/a.css"]}');
  await until('the line of the change', () =>
    /\d\d:\d\d:\d\d {2}css {6}a\.css {2}→ 1 browser, [\d.]+ ms\n/.test(running.out()),
  );

  running.child.kill('SIGINT');
  assert.is(await running.ended, 0);
  assert.is(running.err(), '');
});

test('live-sse ends in under a second with a stream, an idle connection and half a request open', async () => {
  using site = folder({ 'index.html': 'x' });
  const port = await freePort();
  using running = run([site.path, '-p', String(port), '-q']);
  const url = await running.url();
  using stream = await openStream(`${url}__events`);
  using idle = raw(port, 'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n');
  await idle.match(/HTTP\/1\.1 200/);
  using half = raw(port, 'GET / HTTP/1.1\r\nHost: loc');
  await until('the half request to be sent', () => half.socket.bytesWritten > 20);
  running.child.kill('SIGTERM');
  assert.is(await within('the end', running.ended, 1000), 0);
  await until('the stream to end', () => stream.closed());
  using again = run([site.path, '-p', String(port), '-q']);
  assert.is(await again.url(), url, 'its port is free again');
});

test('live-sse --quiet prints the address alone', async () => {
  using site = folder({ 'index.html': 'x' });
  using running = run(['--quiet', '--port=0', site.path]);
  const url = await running.url();
  using stream = await openStream(`${url}__events`);
  await stream.next('hello');
  site.write('new.txt', 'x');
  await stream.next('reload');
  running.child.kill('SIGINT');
  await running.ended;
  assert.is(running.out(), `${url}\n`);
});

test('live-sse serves the working folder if none is given', async () => {
  using site = folder({ 'index.html': 'the working folder' });
  using running = run(['-p0', '-q'], { cwd: site.path });
  assert.match((await get(await running.url(), '/', { headers: navigation })).text, /the working folder/);
});

test('live-sse --watch tells every page of a change outside of the root; --ignore is silent', async () => {
  using site = folder({ 'public/index.html': 'x', 'public/a.log': '1', 'views/a.pug': '1' });
  using running = run(['public', '-p', '0', '-w', 'views', '-i', '*.log'], { cwd: site.path });
  using stream = await openStream(`${await running.url()}__events`);
  await stream.next('hello');
  site.write('public/a.log', '2');
  site.write('views/a.pug', '2');
  // A template: its pages ask for themselves again.
  assert.is((await stream.next('reload')).data, '{"paths":["/__events/client.js"]}');
  await until('the line of the change', () => running.out().includes('a.pug'));
  assert.not.match(running.out(), /a\.log/);
});

test('live-sse --poll looks at the disk, and takes no watch of the system', async () => {
  using site = folder({ 'a.css': 'old' });
  using running = run([site.path, '-p', '0', '--poll=50']);
  using stream = await openStream(`${await running.url()}__events`);
  await stream.next('hello');
  site.write('a.css', 'new');
  assert.is((await stream.next('css')).data, '{"paths":["/a.css"]}');
  if (process.platform !== 'linux') return; // has /proc, which tells of watches
  const fdinfo = `/proc/${running.child.pid}/fdinfo`;
  const infoOf = (name: string) => {
    try {
      return readFileSync(`${fdinfo}/${name}`, 'utf8');
    } catch {
      return ''; // closed since: it looks at the disk all the time
    }
  };
  for (const name of readdirSync(fdinfo)) assert.not.match(infoOf(name), /^inotify /m);
});

test('live-sse --proxy takes a back end for everything, and others for what is below a URL', async () => {
  const backEnds = ['all', 'api'].map((name) => {
    const server = createHttpServer((req, res) => res.end(`${name} ${req.url}`)).listen(0, '127.0.0.1');
    return { server, url: () => `http://127.0.0.1:${(server.address() as { port: number }).port}` };
  });
  for (const { server } of backEnds) await until('the back end to listen', () => server.listening);
  const [all, api] = backEnds.map(({ url }) => url());
  using site = folder();
  using running = run(['-p', '0', '--proxy', `${all}`, '--proxy', `/api=${api}`], { cwd: site.path });
  const url = await running.url();
  const bodies = ['/', '/api/x', '/apix'].map(async (path) => (await get(url, path)).text);
  assert.equal(await Promise.all(bodies), ['all /', 'api /api/x', 'all /apix']);
  for (const { server } of backEnds) server.close().closeAllConnections();
});

for (const [args, kinds] of [
  [['--reload-only'], 'css assets html place'],
  [['--reload-only=css,html', '--reload-only=place'], 'css html place'],
] as const) {
  test(`live-sse ${args.join(' ')} tells its pages not to do: ${kinds}`, async () => {
    using site = folder({ 'index.html': '<!doctype html><title>Hi</title>' });
    using running = run([site.path, '-p', '0', ...args]);
    const { text } = await get(await running.url(), '/', { headers: navigation });
    assert.is(/ data-plain="([^"]*)"/.exec(text)?.[1], kinds);
  });
}

test('live-sse --run passes on what the command prints; --run-kill ends it for a newer change', async () => {
  using project = folder({
    'src/a.txt': 'one',
    'build.mjs': `
      import { readFileSync } from 'node:fs';
      const text = readFileSync('src/a.txt', 'utf8');
      console.log('out of ' + text);
      console.error('err of ' + text);
      if (text === 'one') setInterval(() => {}, 1000);
      else process.exitCode = 1;
    `,
  });
  const args = ['dist', '-p', '0', '-w', 'src', '--run', 'node build.mjs', '--run-kill'];
  using running = run(args, { cwd: project.path });
  const said = (line: string) =>
    until(`"${line}"`, () => `${running.out()}${running.err()}`.includes(`${line}\n`));
  await running.url();
  await said('out of one');
  await said('err of one');
  project.write('src/a.txt', 'two');
  await said('out of two');
  await said('err of two');
  await until('the line of the failure', () =>
    /^The command given as --run has failed after \d+ ms$/m.test(running.err()),
  );
});

test('live-sse --run leaves no process of the command behind', async () => {
  using project = folder({
    'src/a.txt': '',
    'build.mjs': `
      import { spawn } from 'node:child_process';
      if (!process.argv[2]) spawn(process.execPath, ['build.mjs', 'child'], { stdio: 'inherit' });
      console.log('pid ' + process.pid);
      setInterval(() => {}, 1000);
    `,
  });
  using running = run(['dist', '-p', '0', '-w', 'src', '--run', 'node build.mjs'], { cwd: project.path });
  await running.url();
  const pids = await until('both processes', () => {
    const found = [...running.out().matchAll(/^pid (\d+)\n/gm)].map(([, pid]) => Number(pid));
    return found.length === 2 && found;
  });
  assert.equal(pids.map(isAlive), [true, true]);
  running.child.kill('SIGTERM');
  assert.is(await running.ended, 0);
  await until('both to be dead', () => !pids.some(isAlive));
});

test('live-sse --open opens the address in the browser', async () => {
  using site = folder({ 'index.html': 'x' });
  const seen = site.file('.opened');
  const browser = site.write(
    '.browser',
    `#!/bin/sh\necho "$1" > '${seen}.part' && mv '${seen}.part' '${seen}'\n`,
  );
  chmodSync(browser, 0o755);
  // Without a display and a desktop, xdg-open takes BROWSER.
  using running = run([site.path, '-p', '0', '--open=/index.html?a=1'], {
    env: { BROWSER: browser, DISPLAY: '', WAYLAND_DISPLAY: '', XDG_CURRENT_DESKTOP: 'X-Generic' },
  });
  const url = await running.url();
  await until('the browser to be opened', () => existsSync(seen));
  assert.is(readFileSync(seen, 'utf8'), `${url}index.html?a=1\n`);
});

test('live-sse --host says the network address and who can read', async () => {
  using site = folder({ 'index.html': 'x' });
  using running = run([site.path, '-p', '0', '--host']);
  await running.url();
  await until('the greeting', () => /Ctrl-C/.test(running.out()));
  const outer = Object.values(networkInterfaces())
    .flat()
    .filter((entry) => entry?.family === 'IPv4' && !entry.internal);
  for (const entry of outer) assert.ok(running.out().includes(`http://${entry?.address}:`), running.out());
  if (outer.length > 0) assert.match(running.out(), /Whoever reaches this machine can read the folder/);
});

test('live-sse --host shows the first network address as a QR code in a terminal, and only there', async () => {
  const [outer] = Object.values(networkInterfaces())
    .flatMap((entries) => entries ?? [])
    .filter(({ family, internal }) => family === 'IPv4' && !internal);
  using site = folder({ 'index.html': 'x' });
  for (const host of [[], outer ? [outer.address] : []]) {
    for (const isTTY of [true, false]) {
      // As on a terminal; NO_COLOR keeps the lines bare.
      const options = `--import "data:text/javascript,process.stdout.isTTY=${isTTY}"`;
      using running = run([site.path, '-p', '0', '--host', ...host], {
        env: { NODE_OPTIONS: options, NO_COLOR: '1' },
      });
      const url = new URL(await running.url());
      await until('the greeting', () => /Ctrl-C/.test(running.out()));
      if (outer) url.hostname = outer.address;
      const code = renderUnicodeCompact(url.href, { border: 2 }).replace(/^/gm, '  ');
      assert.is(running.out().includes(code), isTTY && outer !== undefined, running.out());
      if (outer) assert.match(running.out(), /Whoever reaches this machine can read the folder/);
    }
  }
});

test('live-sse --version and --help', async () => {
  assert.match((await outcome(['--version'])).out, /^\d+\.\d+\.\d+\n$/);
  const { code, out, err } = await outcome(['-h']);
  assert.is(code, 0);
  assert.is(err, '');
  for (const flag of ['port', 'host', 'open', 'single', 'ignore', 'watch', 'quiet', 'help', 'version']) {
    assert.match(out, new RegExp(`^ {2}-\\w, --${flag}\\b`, 'm'));
  }
});

const wrong: [name: string, args: string[], message: RegExp][] = [
  ['an unknown flag with a near one', ['--prot', '80'], /^Unknown flag --prot: Did you mean --port\?\n$/],
  [
    'an unknown flag without a near one',
    ['--zzzzzzzz'],
    /^Unknown flag --zzzzzzzz: live-sse --help lists all\n$/,
  ],
  ['an unknown short flag', ['-x'], /^Unknown flag -x: live-sse --help lists all\n$/],
  ['a flag that is denied but unknown', ['--no-css'], /^Unknown flag --no-css: /],
  [
    'a port that is no number',
    ['--port', 'abc'],
    /^--port cannot be "abc": give a whole number from 0 to 65535\n$/,
  ],
  [
    'a port out of range',
    ['-p', '65536'],
    /^--port cannot be "65536": give a whole number from 0 to 65535\n$/,
  ],
  [
    'a poll that is no number',
    ['--poll=1s'],
    /^--poll cannot be "1s": give a whole number from 0 to 60000\n$/,
  ],
  [
    'a proxy to no URL',
    ['--proxy', '/api'],
    /^--proxy cannot be "\/api": write \/api=http:\/\/localhost:3000\n$/,
  ],
  ['a port that is left out', ['--port'], /^--port needs a value: --port <n>\n$/],
  [
    'two folders',
    ['a', 'b'],
    /^Cannot serve "a" and "b" at once: give one folder, and the others with --mount/,
  ],
  ['a mount without a folder', ['--mount', '/a'], /^--mount cannot be "\/a": write \/url=folder\n$/],
  [
    'a header that cannot be',
    ['--header', 'a b: c'],
    /^Cannot send the header "a b: c": HTTP does not allow it\n$/,
  ],
  [
    'an origin with a path',
    ['--cors=http://a.example/b'],
    /^--cors cannot admit "http:\/\/a\.example\/b": give an origin/,
  ],
  ['a host to allow with a port', ['--allow', 'a.example:80'], /^Cannot allow the host "a\.example:80": /],
];

for (const [name, args, message] of wrong) {
  test(`live-sse with ${name} says so in one line and exits with 2`, async () => {
    using site = folder({});
    const { code, out, err } = await outcome(args, site.path);
    assert.match(err, message);
    assert.is(err.split('\n').length, 2, 'one line');
    assert.is(code, 2);
    assert.is(out, '');
  });
}

test('live-sse with a folder that is not there or a file says so in one line and exits with 1', async () => {
  using site = folder({ 'page.html': '' });
  assert.equal(await outcome(['nowhere'], site.path), {
    code: 1,
    out: '',
    err: 'Cannot serve "nowhere": there is no such folder. Check the path\n',
  });
  assert.equal(await outcome(['page.html'], site.path), {
    code: 1,
    out: '',
    err: 'Cannot serve "page.html": it is a file. Give the folder it is in\n',
  });
});

test('live-sse with a port that is taken says so in one line and exits with 1', async () => {
  using site = folder({});
  const other = createServer().listen(0, '127.0.0.1');
  await within('the other program to listen', new Promise((resolve) => other.once('listening', resolve)));
  const { port } = other.address() as { port: number };
  const { code, err } = await outcome(['-p', String(port)], site.path);
  other.close();
  assert.is(
    err,
    `Cannot listen on localhost:${port}: another program does already. Stop it, or leave the port out to get a free one\n`,
  );
  assert.is(code, 1);
});

test('live-sse with a host that is not of this machine says so in one line and exits with 1', async () => {
  using site = folder({});
  const { code, err } = await outcome(['--host', '203.0.113.7', '-p', '0'], site.path);
  assert.match(err, /^Cannot listen on 203\.0\.113\.7:0: this machine does not have that address\. .*\n$/);
  assert.is(code, 1);
});

test('live-sse shows control characters of a file name instead of sending them to the terminal', async () => {
  using site = folder({ 'index.html': 'x' });
  using running = run([site.path, '-p', '0']);
  using stream = await openStream(`${await running.url()}__events`);
  await stream.next('hello');
  site.write('a\u001b]0;owned\u0007.txt', 'x');
  await stream.next('reload');
  const out = await until('the line of the change', () => running.out().includes('owned') && running.out());
  assert.ok(out.includes('a\\u001b]0;owned\\u0007.txt'), out);
  assert.not.ok(out.includes('\u001b]0;'));
});

/** Runs a command to its end, among the servers noted in a folder. */
async function call(args: readonly string[], cwd: string, notes: string) {
  using running = run(args, { cwd, env: { XDG_RUNTIME_DIR: notes } });
  return { code: await running.ended, out: running.out(), err: running.err() };
}

const NOBODY = 'Cannot find a server of this folder: start live-sse, or name the port with --port\n';

test('live-sse reload and send reach the server of the folder, or of the port', async () => {
  using site = folder({ 'site/a b.html': 'x', 'lib/c.js': 'x' });
  using notes = folder();
  const env = { XDG_RUNTIME_DIR: notes.path };
  using server = run(['site', '--mount', '/lib=lib', '-p', '0'], { cwd: site.path, env });
  const url = await server.url();
  const { port } = new URL(url);
  using stream = await openStream(`${url}__events`);
  await stream.next('hello');
  const calls: [args: string[], cwd: string, event: string, data: string][] = [
    [['reload'], site.path, 'reload', '{"paths":[]}'],
    [
      ['reload', 'site/a b.html', 'lib/c.js', '/ü?x'],
      site.path,
      'reload',
      '{"paths":["/a%20b.html","/lib/c.js","/%C3%BC"]}',
    ],
    [['reload', 'a b.html'], site.file('site'), 'reload', '{"paths":["/a%20b.html"]}'],
    [['send', 'clock', '{"a":1}'], site.path, 'clock', '{"a":1}'],
    [['send', '-p', port, 'clock', 'ten past'], '/', 'clock', 'ten past'],
    [['send', 'failure', '{"message":"Broken"}'], site.path, 'failure', '{"message":"Broken"}'],
  ];
  for (const [args, cwd, event, data] of calls) {
    const out = `Sent ${event} to 1 browser at ${url}\n`;
    assert.equal(await call(args, cwd, notes.path), { code: 0, out, err: '' });
    assert.is((await stream.next(event)).data, data);
  }
  const unnoted = await call(['reload', '-q', '-p', port], site.path, notes.file('empty'));
  assert.equal(unnoted, { code: 0, out: '', err: '' });
  await stream.next('reload');
});

const refusedCommands: [args: string[], err: string][] = [
  [['reload', '--open'], 'reload takes no --open: to serve a folder of that name, write ./reload'],
  [['send'], 'Say what to send: live-sse send <type> [data]'],
  [['send', 'a', 'b', 'c'], 'Cannot send "b" and "c": quote the data as one word'],
  [['send', 'open'], 'Cannot send the event type "open": EventSource has an event of that name. Use another'],
];
for (const [args, err] of refusedCommands) {
  test(`live-sse ${args.join(' ')} says what is wrong and exits with 2`, async () => {
    using site = folder();
    assert.equal(await call(args, site.path, site.path), { code: 2, out: '', err: `${err}\n` });
  });
}

test('live-sse reload and send of what the server refuses exit with 2', async () => {
  using site = folder({ 'index.html': 'x' });
  const env = { XDG_RUNTIME_DIR: site.file('.notes') };
  using server = run(['-p', '0'], { cwd: site.path, env });
  const url = await server.url();
  assert.equal(await call(['reload', '../package.json'], site.path, env.XDG_RUNTIME_DIR), {
    code: 2,
    out: '',
    err: `Cannot reload "../package.json": ${url} does not serve it. Give its URL path, like /package.json\n`,
  });
  assert.equal(await call(['send', 'ping'], site.path, env.XDG_RUNTIME_DIR), {
    code: 2,
    out: '',
    err: `Cannot send an event of type "ping": that type is live-sse's own. Choose another name\n`,
  });
});

test('live-sse reload with several servers, or none, says what to do; ./reload is a folder', async () => {
  using site = folder({ 'site/index.html': 'x', 'reload/index.html': 'a folder' });
  using notes = folder();
  const env = { XDG_RUNTIME_DIR: notes.path };
  assert.equal(await call(['reload'], site.path, notes.path), { code: 1, out: '', err: NOBODY });
  using first = run(['site', '-p', String(await freePort())], { cwd: site.path, env });
  using second = run(['./reload', '-p', '0'], { cwd: site.path, env });
  const [url, other] = [await first.url(), await second.url()];
  assert.match((await get(other, '/', { headers: navigation })).text, /a folder/);
  const noted = () => readdirSync(notes.file('live-sse')).length;
  await until('both to be noted', () => noted() === 2);
  const several = await call(['reload'], site.path, notes.path);
  assert.is(several.code, 1);
  assert.match(
    several.err,
    /^Cannot tell which server you mean: name its port with --port\. http:.+, http:.+\n$/,
  );

  second.child.kill('SIGINT');
  await second.ended;
  assert.is(noted(), 1);
  first.child.kill('SIGKILL');
  await first.ended;
  assert.equal(await call(['reload'], site.path, notes.path), { code: 1, out: '', err: NOBODY });
  assert.is(noted(), 0);
  assert.equal(await call(['reload', '-p', new URL(url).port], site.path, notes.path), {
    code: 1,
    out: '',
    err: `Cannot send to ${url}: nothing answers there. Start live-sse first\n`,
  });
});

test('live-sse send reaches a server with a certificate of its own, noted or not', async () => {
  using site = folder({ 'index.html': 'x' });
  using notes = folder();
  using server = run([site.path, '--https', '-p', '0'], { env: { XDG_RUNTIME_DIR: notes.path } });
  const url = await server.url();
  for (const [folder, to] of [
    [notes.path, url],
    [notes.file('empty'), url.replace('https', 'http')],
  ] as const) {
    using sent = run(['send', 'clock', '-p', new URL(url).port], { env: { XDG_RUNTIME_DIR: folder } });
    assert.is(await sent.ended, 0);
    assert.is(sent.out(), `Sent clock to 0 browsers at ${to}\n`);
  }
});

test('live-sse send to what is no live-sse says so', async () => {
  const other = createHttpServer((_req, res) => res.end('hello')).listen(0, '127.0.0.1');
  await within('the other program to listen', new Promise((resolve) => other.once('listening', resolve)));
  const { port } = other.address() as { port: number };
  const { code, err } = await outcome(['send', 'clock', '-p', String(port)]);
  other.close();
  assert.is(code, 1);
  assert.is(
    err,
    `Cannot send to http://localhost:${port}/: what answers there is no live-sse that takes events\n`,
  );
});

test('live-sse --https makes a certificate once; --cert and --key take one', async () => {
  using site = folder({ 'index.html': 'x', 'tls.txt': '' });
  using cache = folder();
  const env = { XDG_CACHE_HOME: cache.path };
  const remembered = () => readdirSync(cache.file('live-sse'));
  const answerOf = (url: string, path: string, ca: string) =>
    within(
      `the answer to ${path}`,
      new Promise<number | undefined>((resolve, reject) => {
        request(new URL(path, url), { ca, agent: false }, (res) => resolve(res.resume().statusCode))
          .on('error', reject)
          .end();
      }),
    );
  {
    using running = run([site.path, '--https', '-p', '0'], { env });
    const url = await running.url();
    assert.match(url, /^https:\/\/localhost:\d+\/$/);
    const [name = ''] = remembered();
    site.write('tls.txt', readFileSync(cache.file(`live-sse/${name}`), 'utf8'));
    assert.is(await answerOf(url, '/', readFileSync(site.file('tls.txt'), 'utf8')), 200);
    running.child.kill('SIGINT');
    assert.is(await running.ended, 0);
    assert.is(running.err(), '');
  }
  using running = run(['.', '-q', '-p', '0', '--cert', 'tls.txt', '--key', 'tls.txt'], {
    env,
    cwd: site.path,
  });
  const url = await running.url();
  const pem = readFileSync(site.file('tls.txt'), 'utf8');
  assert.is(await answerOf(url, '/', pem), 200);
  assert.is(await answerOf(url, '/tls.txt', pem), 404);
  assert.is(remembered().length, 1);
});

const wrongTls: [args: string[], code: number, message: RegExp][] = [
  [['--cert', 'a.txt'], 2, /^--cert needs the key of the certificate: --key <file>\n$/],
  [['--key', 'a.txt'], 2, /^--key needs the certificate it is for: --cert <file>\n$/],
  [
    ['--cert', 'a.txt', '--key', 'no.txt'],
    1,
    /^Cannot read the key "no\.txt": there is no such file\. .+\n$/,
  ],
  [['--cert', 'a.txt', '--key', 'a.txt'], 1, /^Cannot use the key "a\.txt": it is none in PEM form, .+\n$/],
];
for (const [args, code, message] of wrongTls) {
  test(`live-sse ${args.join(' ')} is refused in one line`, async () => {
    using site = folder({ 'a.txt': 'no PEM' });
    const result = await outcome(['-p', '0', ...args], site.path);
    assert.is(result.code, code);
    assert.match(result.err, message);
  });
}

test.run();
