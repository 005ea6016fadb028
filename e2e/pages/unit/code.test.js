/** Tests code.js: random codes, how they are shown and how they are entered. */

import assert from 'node:assert/strict';
import {test} from 'node:test';
import {codeMailbox, formatCode, newCode, parseCode} from '../../../public/code.js';

const alphabet = '23456789ABCDEFGHJKMNPQRSTUVWXYZ';

test('codes have six characters that look different from one another', () => {
  const codes = Array.from({length: 500}, newCode);
  for (const code of codes) assert.match(code, /^[2-9A-HJKMNP-Z]{6}$/);
  assert.ok(new Set(codes).size > 490, 'codes are random');
  assert.deepEqual([...new Set(codes.join(''))].sort().join(''), alphabet, 'each character occurs');
});

test('no character is more probable than others', t => {
  let next = 0;
  t.mock.method(crypto, 'getRandomValues', (/** @type {Uint8Array} */ bytes) => bytes.fill(next++));
  /** @type {Map<string, number>} */
  const counts = new Map();
  const total = 31 * 8; // the largest multiple of the alphabet in a byte
  for (let i = 0; i < total / 4; i++) {
    const code = newCode();
    for (const character of code) counts.set(character, (counts.get(character) ?? 0) + 1);
  }
  // 62 codes take 372 characters: one and a half rounds through the 248 accepted bytes.
  assert.equal([...counts.values()].reduce((a, b) => a + b), 372);
  assert.equal(next, 372 + 8, 'the 8 bytes from 248 on are rejected');
  assert.deepEqual([...new Set(counts.values())].sort(), [12], 'each character has the same share');
});

test('a code is shown in threes', () => {
  assert.equal(formatCode('ABC234'), 'ABC 234');
  assert.equal(parseCode(formatCode('ABC234')), 'ABC234');
  assert.equal(codeMailbox('ABC234'), 'code-ABC234');
});

test('case, spaces and hyphens do not matter', () => {
  for (const text of ['ABC234', 'abc234', ' abc 234 ', 'aBc-234', 'a-b-c-2-3-4', 'ABC\u00A0234', 'ABC\u2013234', 'ABC\u2011234', 'ABC\t234\n', 'ＡＢＣ２３４']) {
    assert.equal(parseCode(text), 'ABC234', JSON.stringify(text));
  }
});

test('anything else is not a code', () => {
  for (const text of ['', 'ABC23', 'ABC2345', 'ABC23O', 'ABC230', 'ABC231', 'ABC23I', 'ABC23l', 'ABC23!', 'ABC23Ä', 'АВС234', '      ', 'code-ABC234', 'ABC23ı', 'ABC2😀', 'x'.repeat(100_000)]) {
    assert.equal(parseCode(text), null, text.slice(0, 20));
  }
});
