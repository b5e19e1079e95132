// `npm test`: provides what the tests need, then runs every *.test.ts file (or those whose path holds an argument
// given) in a process of its own, two at a time, and closes with the count of tests.

import { execFileSync, spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { provideChromium } from './browser/chromium.ts';

/** Milliseconds after which a file that still runs has failed: it waits for something that never comes. */
const FILE_LIMIT = 300_000;

const root = fileURLToPath(new URL('..', import.meta.url));
const wanted = process.argv.slice(2);

interface Result {
  readonly passed: number;
  readonly failed: number;
}

function testFiles(): string[] {
  const names = readdirSync(join(root, 'test'), { recursive: true, encoding: 'utf8' });
  const files = names.filter((name) => name.endsWith('.test.ts')).map((name) => join('test', name));
  const chosen = files.filter((file) => wanted.length === 0 || wanted.some((part) => file.includes(part)));
  // The long ones first, so that none is left running alone at the end.
  return chosen.sort(
    (a, b) => Number(b.includes('browser')) - Number(a.includes('browser')) || a.localeCompare(b),
  );
}

function runFile(file: string): Promise<Result> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, ['--import', 'tsx', file], {
      cwd: root,
      env: { ...process.env, FORCE_COLOR: '0' },
    });
    let output = '';
    const collect = (chunk: Buffer) => {
      output += chunk;
    };
    child.stdout.on('data', collect);
    child.stderr.on('data', collect);
    const timer = setTimeout(() => {
      output += `\nStill running after ${FILE_LIMIT / 1000} s: ended\n`;
      child.kill('SIGKILL');
    }, FILE_LIMIT);
    child.on('close', (code) => {
      clearTimeout(timer);
      const result = count(output, code);
      const mark = result.failed > 0 ? 'FAILED' : 'ok';
      console.log(`${mark.padEnd(7)} ${file}: ${result.passed} passed, ${result.failed} failed`);
      if (result.failed > 0) console.log(output);
      resolve(result);
    });
  });
}

function count(output: string, code: number | null): Result {
  const total = Number(/^ {2}Total: +(\d+)/m.exec(output)?.[1] ?? 0);
  const passed = Number(/^ {2}Passed: +(\d+)/m.exec(output)?.[1] ?? 0);
  // A file that ends badly without a failed test (a crash, a hang, no test at all) counts as one failure.
  const failed = total - passed || (code === 0 && total > 0 ? 0 : 1);
  return { passed, failed };
}

try {
  provideChromium();
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exit(1);
}
execFileSync('npm', ['run', 'build', '--silent'], { cwd: root, stdio: 'inherit' });

const queue = testFiles();
const results: Result[] = [];
await Promise.all(
  [1, 2].map(async () => {
    for (let file = queue.shift(); file; file = queue.shift()) results.push(await runFile(file));
  }),
);
const sum = (key: keyof Result) => results.reduce((all, result) => all + result[key], 0);
console.log(`\n${sum('passed')} passed, ${sum('failed')} failed`);
process.exitCode = sum('failed') > 0 || results.length === 0 ? 1 : 0;
