import { existsSync, readFileSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type LiveEvents, type StartOptions, start } from '../src/index.ts';
import { type Folder, folder, get, isAlive, navigation, openStream, until, within } from './harness.ts';

/** A build in one line: copies what is in src to dist, slowly if it is asked to, and fails at the word "broken". */
const BUILD = `
import { cpSync, existsSync, readFileSync, rmSync } from 'node:fs';
const page = readFileSync('src/index.html', 'utf8');
while (existsSync('.slow')) await new Promise((resolve) => setTimeout(resolve, 5));
if (page.includes('broken')) {
  console.error('src/index.html:3: it is broken');
  process.exit(1);
}
cpSync('src', 'dist', { recursive: true });
console.log('built');
`;

interface Project extends AsyncDisposable {
  readonly files: Folder;
  readonly server: Awaited<ReturnType<typeof start>>;
  readonly builds: LiveEvents['build'][];
  readonly output: () => string;
}

interface ProjectOptions extends Pick<StartOptions, 'runKill'> {
  readonly build?: string;
  readonly slow?: boolean;
}

async function project({ build = BUILD, slow = false, ...options }: ProjectOptions = {}): Promise<Project> {
  const files = folder({
    'build.mjs': build,
    'src/index.html': '<!doctype html><title>one</title>',
    'src/a.css': 'a{}',
    ...(slow ? { '.slow': '' } : {}),
  });
  const builds: LiveEvents['build'][] = [];
  let output = '';
  const cwd = process.cwd();
  process.chdir(files.path); // the command runs in the working folder
  const server = await start({ root: 'dist', watch: 'src', run: 'node build.mjs', port: 0, ...options });
  process.chdir(cwd);
  server.on('build', (build) => builds.push(build));
  server.on('output', (text) => {
    output += text;
  });
  return {
    files,
    server,
    builds,
    output: () => output,
    [Symbol.asyncDispose]: async () => {
      await server.close();
      files[Symbol.dispose]();
    },
  };
}

test('run fills a folder that is not there, runs again after a change, and sends one event for what changed', async () => {
  await using made = await project();
  const { server, files, builds } = made;
  await until('the first build', () => builds.length === 1);
  assert.ok(builds[0]?.ok);
  assert.is(made.output(), 'built\n');
  assert.match((await get(server.url, '/', { headers: navigation })).text, /<title>one/);

  using stream = await openStream(`${server.url}__events`);
  await stream.next('hello');
  const told = () => stream.events.filter(({ type }) => type !== 'ping').length;
  const before = told();
  files.write('src/a.css', 'a{color:red}');
  assert.is((await stream.next('css')).data, '{"paths":["/a.css"]}');
  files.write('src/index.html', '<!doctype html><title>two</title>');
  assert.is((await stream.next('reload')).data, '{"paths":["/index.html"]}');
  assert.is(told(), before + 2);
});

test('a failed run is a failure with its output, until a good one, even one that changes nothing', async () => {
  await using made = await project();
  const { server, files, builds } = made;
  await until('the first build', () => builds.length === 1);
  using stream = await openStream(`${server.url}__events`);
  await stream.next('hello');
  files.write('src/index.html', 'broken');
  const failure = JSON.parse((await stream.next('failure')).data);
  assert.is(failure.message, '"node build.mjs" exited with code 1');
  assert.is(failure.output, 'src/index.html:3: it is broken');
  using later = await openStream(`${server.url}__events`);
  await later.next('failure');
  files.write('src/index.html', '<!doctype html><title>one</title>');
  assert.is((await stream.next('failure')).data, 'null');
  assert.equal(
    builds.map(({ ok }) => ok),
    [true, false, true],
  );
});

test('what a failed run has changed is held, and told with what the next good one changes', async () => {
  await using made = await project({
    build: `
      import { readFileSync, writeFileSync } from 'node:fs';
      const page = readFileSync('src/index.html', 'utf8');
      if (page === 'broken') {
        writeFileSync('dist/a.css', 'half a build');
        process.exit(1);
      }
      writeFileSync('dist/index.html', page);
    `,
  });
  const { server, files, builds } = made;
  await until('the first build', () => builds.length === 1);
  using stream = await openStream(`${server.url}__events`);
  await stream.next('hello');
  const before = stream.events.length;
  files.write('src/index.html', 'broken');
  await stream.next('failure');
  assert.is(readFileSync(files.file('dist/a.css'), 'utf8'), 'half a build');
  files.write('src/index.html', '<!doctype html><title>two</title>');
  await until('the good build', () => builds.length === 3);
  server.send('after');
  await stream.next('after');
  const told = stream.events.slice(before).filter(({ type }) => type !== 'ping' && type !== 'hello');
  assert.equal(
    told.map(({ type, data }) => [type, JSON.parse(data)?.paths]),
    [
      ['failure', undefined],
      ['reload', ['/a.css', '/index.html']],
      ['after', undefined],
    ],
  );
});

/** A build that begins by deleting what is there, takes its time, and makes all of it once more. */
const CLEAN = `
import { cpSync, existsSync, readFileSync, rmSync } from 'node:fs';
rmSync('dist', { recursive: true, force: true });
console.log('deleted');
await new Promise((resolve) => setTimeout(resolve, 200)); // longer than a deleted file is waited for
while (existsSync('.slow')) await new Promise((resolve) => setTimeout(resolve, 5));
if (readFileSync('src/index.html', 'utf8') === 'broken') process.exit(1);
cpSync('src', 'dist', { recursive: true });
`;

test('a build that deletes everything first has changed what is another in the end', async () => {
  await using made = await project({ build: CLEAN });
  const { server, files, builds } = made;
  await until('the first build', () => builds.length === 1);
  using stream = await openStream(`${server.url}__events`);
  await stream.next('hello');
  files.write('src/a.css', 'a{color:red}');
  assert.is((await stream.next('css')).data, '{"paths":["/a.css"]}');
  files.write('src/b.css', 'b{}');
  assert.is((await stream.next('css')).data, '{"paths":["/b.css"]}');
  files.write('src/.touched.css', 'b{}'); // is copied, and never counts
  files.write('src/a.css', 'a{color:blue}');
  assert.is((await stream.next('css')).data, '{"paths":["/a.css"]}');
  assert.not(stream.events.some(({ type }) => type === 'reload'));
});

test('what was asked for while it was gone has changed, and what a failed run has deleted', async () => {
  await using made = await project({ build: CLEAN });
  const { server, files, builds, output } = made;
  await until('the first build', () => builds.length === 1);
  using stream = await openStream(`${server.url}__events`);
  await stream.next('hello');
  files.write('.slow', '');
  files.write('src/b.css', 'b{}');
  await until('the deletion', () => output() === 'deleted\ndeleted\n');
  await until('nothing to be there', async () => (await get(server.url, '/a.css')).status === 404);
  files.write('src/b.css', 'b{} ');
  await import('node:fs').then(({ rmSync }) => rmSync(files.file('.slow')));
  const { paths } = JSON.parse((await stream.next('reload')).data);
  assert.equal(paths.sort(), ['/a.css', '/b.css', '/index.html']);

  files.write('src/index.html', 'broken');
  await stream.next('failure');
  files.write('src/index.html', '<!doctype html><title>one</title>');
  const again = JSON.parse((await stream.next('reload')).data);
  assert.equal(again.paths.sort(), ['/a.css', '/b.css', '/index.html']);
});

test('what a failed run has added and the next one deletes is told of: a page may have it', async () => {
  await using made = await project({
    build: `
      import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
      mkdirSync('dist', { recursive: true });
      rmSync('dist/b.html', { force: true });
      copyFileSync('src/index.html', 'dist/index.html');
      if (readFileSync('src/index.html', 'utf8') !== 'broken') process.exit();
      writeFileSync('dist/b.html', 'half a build');
      process.exit(1);
    `,
  });
  const { server, files, builds } = made;
  await until('the first build', () => builds.length === 1);
  using stream = await openStream(`${server.url}__events`);
  await stream.next('hello');
  files.write('src/index.html', 'broken');
  await stream.next('failure');
  assert.is((await get(server.url, '/b.html')).text.includes('half a build'), true);
  files.write('src/index.html', '<!doctype html><title>two</title>');
  const told = JSON.parse((await stream.next('reload')).data);
  assert.equal([told.paths.sort(), told.gone], [['/b.html', '/index.html'], ['/b.html']]);
});

test('runKill: a newer change ends the run under way, and only its own run is told', async () => {
  await using made = await project({
    runKill: true,
    build: `
      import { cpSync, readFileSync } from 'node:fs';
      const page = readFileSync('src/index.html', 'utf8');
      console.log('begun');
      if (page.includes('one')) setInterval(() => {}, 1000);
      else cpSync('src', 'dist', { recursive: true });
    `,
  });
  const { server, files, builds } = made;
  await until('the first run', () => made.output() === 'begun\n');
  files.write('src/index.html', '<!doctype html><title>two</title>');
  await until('the end of a run', () => builds.length > 0);
  assert.equal(
    builds.map(({ ok }) => ok),
    [true],
  );
  assert.is(made.output(), 'begun\nbegun\n');
  assert.match((await get(server.url, '/', { headers: navigation })).text, /<title>two/);
});

test('close() of the server ends the run under way with all its processes', async () => {
  await using made = await project({
    build: `
      import { spawn } from 'node:child_process';
      import { appendFileSync } from 'node:fs';
      if (!process.argv[2]) spawn(process.execPath, ['build.mjs', 'child'], { stdio: 'inherit' });
      appendFileSync('pids', process.pid + '\\n');
      setInterval(() => {}, 1000);
    `,
  });
  const { server, files } = made;
  const pids = await until('both processes', () => {
    const text = existsSync(files.file('pids')) ? readFileSync(files.file('pids'), 'utf8') : '';
    const found = text.split('\n').filter(Boolean).map(Number);
    return found.length === 2 && found;
  });
  assert.equal(pids.map(isAlive), [true, true]);
  await within('the server to close', server.close());
  await until('both to be dead', () => !pids.some(isAlive));
});

test('a page waits for the build, and hears of it if that takes long', async () => {
  await using made = await project({ slow: true });
  const { server, files } = made;
  const early = get(server.url, '/', { headers: navigation });
  const { status, text } = await early;
  assert.is(status, 503);
  assert.match(text, /Building/);
  assert.match(text, /__events\/client\.js/);
  using stream = await openStream(`${server.url}__events`);
  await stream.next('hello');
  const waiting = get(server.url, '/', { headers: navigation });
  const { rmSync } = await import('node:fs');
  rmSync(files.file('.slow'));
  assert.match((await waiting).text, /<title>one/);
  await until('its reload', () =>
    stream.events.some(({ type, data }) => type === 'reload' && data === '{"paths":[]}'),
  );
});

test('a command that changes its own sources is told of', async () => {
  using files = folder({ 'src/a.txt': '0' });
  const script = "const f = process.argv[1]; require('fs').writeFileSync(f, String(process.hrtime.bigint()))";
  await using server = await start({
    root: files.file('dist'),
    watch: files.file('src'),
    run: `node -e ${JSON.stringify(script)} ${JSON.stringify(files.file('src/a.txt'))}`,
    port: 0,
  });
  const lines: string[] = [];
  server.on('notice', (line) => lines.push(line));
  await until(
    'the line',
    () =>
      lines.some((line) => /^The command given as run changes ".*a\.txt", which it builds from/.test(line)),
    60_000,
  );
});

test('run without watch is refused: nobody could tell when to run it', async () => {
  const error = await start({ run: 'true', port: 0 }).catch((reason: Error) => reason);
  assert.match(String(error), /Cannot tell when to run "true": name what it builds from with --watch/);
});

test.run();
