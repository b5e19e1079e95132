// What a server brings into a project and into each page.

import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { launch } from '../browser/chromium.ts';
import { type Folder, folder } from '../harness.ts';
import { type Bench, withServer } from './bench.ts';
import { npmInstall, type Peer } from './peers.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const PAGE = '<!doctype html><html><head><title>Page</title></head><body><p>Words</p></body></html>\n';

export async function footprint(bench: Bench): Promise<void> {
  using packed = folder();
  for (const peer of bench.peers) installAlone(bench, peer, packed);
  await clientBytes(bench);
}

function installAlone(bench: Bench, peer: Peer, packed: Folder): void {
  if (!peer.package && peer.name !== 'live-sse') return;
  using home = folder({ 'package.json': '{ "private": true }' });
  try {
    npmInstall([peer.package ? `${peer.package}@${peer.version}` : pack(packed)], home.path);
    bench.record('packages', peer, packages(home.path));
    bench.record('installed (KB)', peer, bytes(home.file('node_modules')) / 1024);
  } catch (error) {
    bench.say(
      `${peer.name}: not installed: ${error instanceof Error ? error.message.split('\n')[0] : error}`,
    );
  }
}

function pack(into: Folder): string {
  const words = ['pack', '--ignore-scripts', '--silent', '--pack-destination', into.path];
  execFileSync('npm', words, { cwd: root, stdio: ['ignore', 'ignore', 'pipe'] });
  return into.file(readdirSync(into.path).find((name) => name.endsWith('.tgz')) ?? 'nothing packed');
}

function packages(home: string): number {
  const lock: { packages: Record<string, unknown> } = JSON.parse(
    readFileSync(join(home, 'node_modules/.package-lock.json'), 'utf8'),
  );
  return Object.keys(lock.packages).length;
}

function bytes(dir: string): number {
  const files = readdirSync(dir, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  return files.reduce((sum, { parentPath, name }) => sum + statSync(join(parentPath, name)).size, 0);
}

/** What the browser loads for a page without a script of its own, and what is in the page besides its file. */
async function clientBytes(bench: Bench): Promise<void> {
  await using chromium = await launch();
  for (const peer of bench.peers.filter(({ injects }) => injects)) {
    using home = folder({ 'index.html': PAGE });
    await withServer(bench, [peer, home.path], async (server) => {
      const page = await chromium.browser.newPage();
      const bodies: Promise<number>[] = [];
      page.on('response', (response) => {
        if (response.request().resourceType() !== 'script') return;
        bodies.push(response.buffer().then((body) => gzipSync(body).length));
      });
      await page.goto(server.url);
      await page.waitForNetworkIdle({ idleTime: 300, timeout: 5000 }).catch(() => {}); // an open stream is no idleness
      const inline = await page.$$eval('script:not([src])', (tags) => tags.map((tag) => tag.text).join(''));
      const loaded = (await Promise.all(bodies)).reduce((sum, size) => sum + size, 0);
      const all = loaded + (inline ? gzipSync(inline).length : 0);
      bench.record('client of every page (KB gzip)', peer, all / 1024);
      if (peer.name === 'live-sse')
        bench.record('rest of the client (KB gzip)', peer, ourClient() / 1024 - all / 1024);
      await page.close();
    });
  }
}

function ourClient(): number {
  const dir = join(root, 'dist/client');
  return readdirSync(dir).reduce((sum, name) => sum + gzipSync(readFileSync(join(dir, name))).length, 0);
}
