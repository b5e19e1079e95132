import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { isWithin } from '../src/links.ts';

const cases: [dir: string, file: string, separator: string, expected: boolean][] = [
  ['/site', '/site', '/', true],
  ['/site', '/site/a.css', '/', true],
  ['/site', '/site-2/a.css', '/', false],
  ['/site', '/Site/a.css', '/', false],
  ['/', '/a.css', '/', true],
  ['/site', '/site\\a.css', '/', false],
  ['C:\\site', 'C:\\site', '\\', true],
  ['C:\\site', 'C:\\site\\a.css', '\\', true],
  ['c:\\site', 'C:\\Site', '\\', true],
  ['c:\\site', 'C:\\Site\\a.css', '\\', true],
  ['C:\\site', 'C:\\site-2\\a.css', '\\', false],
  ['C:\\site', 'D:\\site\\a.css', '\\', false],
  ['C:\\', 'c:\\a.css', '\\', true],
  ['\\\\nas\\www', '\\\\nas\\www\\a.css', '\\', true],
];

for (const [dir, file, separator, expected] of cases) {
  test(`isWithin() of ${file} in ${dir}, with ${separator} between names, is ${expected}`, () =>
    assert.is(isWithin(dir, file, separator), expected));
}

test.run();
