/** Tests report.js: the report is useful, and contains no address or name, whatever its input. */

import assert from 'node:assert/strict';
import {test} from 'node:test';
import {report} from '../../../public/report.js';
import {row} from '../../../public/self-test.js';

const time = new Date(Date.UTC(2031, 4, 6, 7, 8, 9));
const firefox = 'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0';

test('a report', () => {
  const rows = [{...row('server', 'ok', 'serverOk'), ms: 12}, {...row('turn-tls', 'failed', 'turnRefused', 2), ms: 3_000, code: 401}, row('camera', 'waiting', 'mediaIdle')];
  assert.equal(report(rows, {userAgent: firefox, time}), [
    'inbox self-test, 2031-05-06 07:08 UTC', 'Firefox 140 on Linux',
    'Server: ok, serverOk, 12 ms', 'TURN over TLS 2: failed, turnRefused, error 401, 3000 ms', 'Camera: waiting, mediaIdle',
  ].join('\n'));
});

for (const [userAgent, want] of [
  [firefox, 'Firefox 140 on Linux'],
  ['Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Safari/537.36 Edg/138.0.3351.95', 'Edge 138 on Windows'],
  ['Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Mobile Safari/537.36', 'Chrome 138 on Android'],
  ['Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1', 'Safari 18 on iOS'],
  ['Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/138.0.7204.119 Mobile/15E148 Safari/604.1', 'Chrome 138 on iOS'],
  ['Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.4 Safari/605.1.15', 'Safari 17 on macOS'],
  ['', 'Other browser on another system'],
  ['10.1.2.3 alice@example.org Firefox/192.168.0.7', 'Firefox 192 on another system'],
]) {
  test(want, () => assert.equal(report([], {userAgent, time}).split('\n')[1], want));
}

/** Strings that a server, a device or a browser could call itself. */
const hostile = [
  '192.0.2.1', '192.0.2.1:3478', '2001:db8::1', '[2001:db8::1]:443', '::ffff:10.0.0.1', 'fe80::1%eth0', 'example.org', 'turn.example.org:3478', 'localhost',
  'https://alice:rabbit@example.org/x', 'alice', 'Alice’s AirPods', 'alice@example.org', 'stun:example.org', 'turns:192.0.2.1?transport=tcp',
  '0b1946ac-92d4-4c2d-8c56-1e2f3a4b5c6d.local', '01:23:45:67:89:ab', '\u0661\u0669\u0662.\u0660.\u0662.\u0661', 'a\nServer: ok', '<b>x</b>', 'constructor', '__proto__', 'toString',
];

for (const text of hostile) {
  test(`nothing of ${JSON.stringify(text)} is in a report`, () => {
    const spoiled = /** @type {any} */ ({check: text, number: text, state: text, finding: text, ms: text, code: text});
    const lines = report([spoiled, {...row('stun', 'ok', 'stunOk'), ...spoiled, check: 'stun'}], {userAgent: text, time}).split('\n');
    assert.deepEqual(lines, ['inbox self-test, 2031-05-06 07:08 UTC', 'Other browser on another system', 'Other: unknown', 'STUN: unknown']);
  });
}

test('numbers that are addresses, and an invalid time', () => {
  const odd = [3232235521, -1, 1.5, NaN, Infinity, 1e300].map(value => ({...row('stun', 'ok', 'stunOk'), ms: value, code: value, number: value}));
  const text = report(odd, {userAgent: firefox, time: new Date(NaN)});
  assert.match(text, /^inbox self-test, unknown time\n/);
  assert.doesNotMatch(text, /3232235521 ms|error|\./);
});
