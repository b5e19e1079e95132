// The package as users get it: packed, installed into an empty folder, used from there.

import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { folder, get, navigation, openStream } from './harness.ts';
import { installed, runProgram } from './installed.ts';

/** What package-lock.json says of a package. */
interface LockedPackage {
  readonly dev?: boolean;
  readonly link?: boolean;
  readonly resolved?: string;
  readonly integrity?: string;
  readonly hasInstallScript?: boolean;
}

const home = await installed();
test.after(() => home[Symbol.dispose]());

test('npm pack holds only what users need', () => {
  const unexpected = home.packed.filter(
    (name) => !/^(dist\/.+\.(js|d\.ts)|package\.json|README\.md|CHANGELOG\.md|LICENSE)$/.test(name),
  );
  assert.equal(unexpected, []);
  for (const name of [
    'dist/cli.js',
    'dist/index.d.ts',
    'dist/sse.d.ts',
    'dist/client/index.js',
    'dist/client/worker.js',
  ]) {
    assert.ok(home.packed.includes(name), name);
  }
});

test('npx live-sse serves a folder, and its stream tells of a change', async () => {
  using site = folder({ 'index.html': '<!doctype html><title>Packed</title>', 'a.css': 'a{}' });
  using program = runProgram('npx', ['live-sse', site.path, '--port', '0'], home.path);
  const url = await program.url();
  const { text } = await get(url, '/', { headers: navigation });
  assert.match(text, /<title>Packed<\/title>/);
  assert.is((await get(url, '/__events/client.js')).status, 200);
  using stream = await openStream(`${url}__events`);
  await stream.next('hello');
  site.write('a.css', 'a{color:red}');
  await stream.next('css');
});

test('import { start } works, and so does the event stream on its own', async () => {
  home.write(
    'use.mjs',
    `import { start } from 'live-sse';
     import { createChannel } from 'live-sse/sse';
     const server = await start({ root: '.', port: 0 });
     console.log(server.url, typeof createChannel().connect);
     await server.close();`,
  );
  using program = runProgram(process.execPath, ['use.mjs'], home.path);
  assert.match(await program.output(), /^http:\/\/localhost:\d+\/ function\n$/);
});

test('its types resolve under NodeNext and Bundler, strict', () => {
  home.write(
    'use.ts',
    `import { start, live, type LiveServer, type StartOptions, type Change } from 'live-sse';
     import { createChannel, type Channel } from 'live-sse/sse';
     const options: StartOptions = { root: 'site', ignore: ['*.log', /x/, (file) => file.endsWith('y')] };
     const server: LiveServer = await start(options);
     const undo: () => void = server.on('change', ({ changes }) => changes.map((change: Change) => change.path));
     const channel: Channel = createChannel({ retry: 1000 });
     // @ts-expect-error: a port is a number
     await start({ port: '8080' });
     live({ watch: false, reloadOnly: ['html'], overlay: false }).send('clock', { time: 1 });
     undo(); channel.send('a', 'b');`,
  );
  home.write(
    'page.ts',
    `import type {} from 'live-sse/client';
     addEventListener('live-sse:change', (event) => {
       const { actions, paths } = event.detail;
       if (actions.includes('reload') && paths.length === 0) event.preventDefault();
       // @ts-expect-error: no such action
       actions.includes('nothing');
     });`,
  );
  const tsc = new URL('../node_modules/typescript/bin/tsc', import.meta.url).pathname;
  const types = new URL('../node_modules/@types', import.meta.url).pathname;
  for (const [module, resolution] of [
    ['NodeNext', 'NodeNext'],
    ['ESNext', 'Bundler'],
  ] as const) {
    const args = [
      '--noEmit',
      '--strict',
      '--target',
      'ES2023',
      '--module',
      module,
      '--moduleResolution',
      resolution,
    ];
    try {
      execFileSync(process.execPath, [tsc, ...args, '--typeRoots', types, '--types', 'node', 'use.ts'], {
        cwd: home.path,
      });
      execFileSync(process.execPath, [tsc, ...args, '--lib', 'ES2023,DOM', '--types', '', 'page.ts'], {
        cwd: home.path,
      });
    } catch (error) {
      assert.unreachable(String((error as { stdout?: Buffer }).stdout));
    }
  }
});

test('no package that it needs has an install script, and all are of the registry', () => {
  const lock = JSON.parse(readFileSync(new URL('../package-lock.json', import.meta.url), 'utf8'));
  const needed = Object.entries<LockedPackage>(lock.packages).filter(
    ([name, { dev }]) => name !== '' && !dev,
  );
  assert.ok(needed.length > 5);
  for (const [name, { hasInstallScript, integrity, resolved, link }] of needed) {
    assert.not.ok(hasInstallScript, name);
    assert.match(integrity ?? '', /^sha512-/, name);
    assert.is(resolved, undefined, name);
    assert.not.ok(link, name);
  }
});

test('the package itself runs nothing when it is installed', () => {
  const { scripts } = JSON.parse(readFileSync(home.file('node_modules/live-sse/package.json'), 'utf8'));
  for (const name of ['preinstall', 'install', 'postinstall', 'prepare']) {
    assert.is(scripts[name], undefined, name);
  }
});

test('LICENSE names what is bundled into dist', () => {
  const { dependencies, devDependencies } = JSON.parse(
    readFileSync(new URL('../package.json', import.meta.url), 'utf8'),
  );
  const license = readFileSync(new URL('../LICENSE', import.meta.url), 'utf8');
  const sources = readdirSync(new URL('../src/', import.meta.url))
    .filter((name) => name !== 'bundle.ts') // what bundles is not bundled
    .map((name) => readFileSync(new URL(`../src/${name}`, import.meta.url), 'utf8'));
  const bundled = Object.keys(devDependencies).filter((name) =>
    sources.some((text) =>
      new RegExp(`^import (?!type).* from '${name}'|import\\('${name}'\\)`, 'm').test(text),
    ),
  );
  assert.ok(bundled.length > 0);
  for (const name of bundled) assert.match(license, new RegExp(`^${name} `, 'm'));
  assert.equal(Object.keys(dependencies), ['chokidar', 'mri', 'open', 'sirv']);
});

test('it installs at most 20 packages and 1 MB', () => {
  const packages = execFileSync('npm', ['ls', '--all', '--parseable'], { cwd: home.path, encoding: 'utf8' })
    .trim()
    .split('\n');
  assert.ok(packages.length - 1 <= 20, `${packages.length - 1} packages`);
  const bytes = readdirSync(home.file('node_modules'), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .reduce((sum, { parentPath, name }) => sum + statSync(join(parentPath, name)).size, 0);
  assert.ok(bytes <= 1024 * 1024, `${bytes} bytes`);
  assert.not.ok(existsSync(home.file('node_modules/esbuild')));
});

test.run();
