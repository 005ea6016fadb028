/** status.js: what a person is told about a refusal. */

import assert from 'node:assert/strict';
import {test} from 'node:test';
import {troubleOf} from '../../../public/status.js';

for (const [status, code, title, again] of /** @type {[number, string, RegExp, boolean][]} */ ([
  [400, 'bad-request', /refused a request/, false],
  [401, 'unauthorized', /another secret/, false],
  [403, 'cross-site', /does not take requests from this page/, false],
  [404, 'not-found', /refused a request/, false],
  [408, 'body-too-slow', /unexpected answer/, true],
  [413, 'body-too-large', /only small messages/, false],
  [429, 'rate-limited', /Too many requests/, true],
  [500, 'internal', /unexpected answer/, true],
  [503, 'server-full', /is full/, true],
  [503, 'stopping', /is restarting/, true],
  [503, 'store-away', /waits for its store/, true],
])) {
  test(`${status} ${code}`, () => {
    const {title: got, hint = ''} = troubleOf({status, code});
    assert.match(got, title);
    assert.equal(/by itself/.test(hint), again, `the hint is «${hint}»`);
  });
}
