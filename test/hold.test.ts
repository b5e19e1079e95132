import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { limitReached, misleadsChokidar } from '../src/hold.ts';

const names: [dir: string, separator: string, expected: boolean][] = [
  ['/site', '/', false],
  ['/a\\b', '/', true],
  ['C:\\site', '\\', false],
];

for (const [dir, separator, expected] of names) {
  test(`misleadsChokidar() of ${dir}, with ${separator} between names, is ${expected}`, () =>
    assert.is(misleadsChokidar(dir, separator), expected));
}

const limits: [code: string, platform: NodeJS.Platform, hint: RegExp][] = [
  ['ENOSPC', 'linux', /limit of watches .*sysctl fs\.inotify\.max_user_watches=524288$/],
  ['EMFILE', 'linux', /limit of watches .*sysctl fs\.inotify\.max_user_instances=1024$/],
  ['EMFILE', 'darwin', /^Too many files are open \(EMFILE\).*ulimit -n 65536$/],
  ['EMFILE', 'win32', /^Too many files are open/],
];

for (const [code, platform, hint] of limits) {
  test(`limitReached() of ${code} on ${platform}`, () => assert.match(limitReached(code, platform), hint));
}

test.run();
