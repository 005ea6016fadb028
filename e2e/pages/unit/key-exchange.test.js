/** Tests key-exchange.js: the agreement of two devices, and attacks on it. */

import assert from 'node:assert/strict';
import {createECDH, createHash, hkdfSync} from 'node:crypto';
import {test} from 'node:test';
import {KeyExchange, PairingError} from '../../../public/key-exchange.js';
import {base64url, fromBase64url} from '../../../public/room.js';
import {SealError} from '../../../public/seal.js';

const mailboxes = {owner: 'code-ABC234', joiner: `join-${'j'.repeat(22)}`};
const link = 'https://inbox.example/receive.html#id.secret';

/** @param {string} code */
const pairingError = code => (/** @type {unknown} */ error) => error instanceof PairingError && error.name === 'PairingError' && error.code === code;
/** @param {string} code */
const sealError = code => (/** @type {unknown} */ error) => error instanceof SealError && error.code === code;

/** Makes an exchange. @param {{owner: string, joiner: string}} [ownerView] the names that the owner sees */
async function agree(ownerView = mailboxes) {
  const [owner, joiner] = await Promise.all([KeyExchange.create(ownerView), KeyExchange.create(mailboxes)]);
  const commitment = await joiner.commitment;
  return [await owner.acceptReveal(commitment, joiner.publicKey), await joiner.acceptKey(owner.publicKey)];
}

test('both sides get the same digits, and the link arrives', async () => {
  for (let i = 0; i < 20; i++) {
    const [owner, joiner] = await agree();
    assert.match(owner.digits, /^\d{4}$/);
    assert.equal(owner.digits, joiner.digits);
    const envelope = await owner.sealLink(link);
    assert.ok(!JSON.stringify(envelope).includes('secret'));
    assert.equal(await joiner.openLink(envelope), link);
  }
});

test('each exchange has other keys and other digits', async () => {
  const exchanges = await Promise.all(Array.from({length: 20}, () => agree()));
  assert.ok(new Set(exchanges.map(([{digits}]) => digits)).size > 15);
  const [[owner], [, otherJoiner]] = exchanges;
  await assert.rejects(otherJoiner.openLink(await owner.sealLink(link)), sealError('wrong-key'), 'a replayed link');
});

test('a joiner that follows docs/protocol.md with other tools agrees with the owner', async () => {
  const owner = await KeyExchange.create(mailboxes);
  const ecdh = createECDH('prime256v1');
  const joinerKey = ecdh.generateKeys().toString('base64url');
  const committed = JSON.stringify(['inbox pairing v1 commitment', mailboxes.owner, mailboxes.joiner, joinerKey]);
  const commitment = createHash('sha256').update(committed).digest('base64url');
  const {digits} = await owner.acceptReveal(commitment, joinerKey);
  const shared = ecdh.computeSecret(Buffer.from(owner.publicKey, 'base64url'));
  const transcript = JSON.stringify(['inbox pairing v1', mailboxes.owner, mailboxes.joiner, owner.publicKey, joinerKey]);
  const bits = Buffer.from(hkdfSync('sha256', shared, transcript, 'inbox pairing v1 digits', 8));
  assert.equal(digits, String(bits.readBigUInt64BE() % 10000n).padStart(4, '0'));
});

test('a revealed key must belong to the commitment', async () => {
  const [owner, joiner, other] = await Promise.all([1, 2, 3].map(() => KeyExchange.create(mailboxes)));
  const commitment = await joiner.commitment;
  await assert.rejects(owner.acceptReveal(commitment, other.publicKey), pairingError('wrong-commitment'));
  await assert.rejects(owner.acceptReveal(commitment, owner.publicKey), pairingError('wrong-commitment'), 'the own key, reflected');
  await assert.rejects(owner.acceptReveal('', joiner.publicKey), pairingError('wrong-commitment'));
  const altered = commitment.replace(/^./, first => (first === 'A' ? 'B' : 'A'));
  await assert.rejects(owner.acceptReveal(altered, joiner.publicKey), pairingError('wrong-commitment'));
});

test('a commitment belongs to one code and one joiner', async () => {
  for (const view of [{...mailboxes, owner: 'code-ABC235'}, {...mailboxes, joiner: `join-${'k'.repeat(22)}`}]) {
    await assert.rejects(agree(view), pairingError('wrong-commitment'));
  }
});

test('anything but a point of the curve is refused', async () => {
  const [owner, joiner] = await Promise.all([KeyExchange.create(mailboxes), KeyExchange.create(mailboxes)]);
  const point = /** @type {Uint8Array} */ (fromBase64url(joiner.publicKey));
  const offCurve = Uint8Array.from(point);
  offCurve[64] ^= 1;
  const compressed = Uint8Array.from(point.slice(0, 33));
  compressed[0] = 2 + point[64] % 2;
  const hybrid = Uint8Array.from(point);
  hybrid[0] = 6 + point[64] % 2;
  const bytes = [offCurve, compressed, hybrid, point.slice(1), Uint8Array.from([...point, 0]), new Uint8Array(65), new Uint8Array(1), new Uint8Array(0)];
  for (const key of [...bytes.map(base64url), undefined, null, 7, {}, [joiner.publicKey], `${joiner.publicKey}=`, ` ${joiner.publicKey}`]) {
    await assert.rejects(joiner.acceptKey(key), pairingError('invalid-key'), String(key));
    await assert.rejects(owner.acceptReveal(await joiner.commitment, key), pairingError('invalid-key'), String(key));
  }
});

test('a link that was altered is refused', async () => {
  const [owner, joiner] = await agree();
  const envelope = await owner.sealLink(link);
  const box = /** @type {Uint8Array} */ (fromBase64url(envelope.box));
  box[3] ^= 1;
  await assert.rejects(joiner.openLink({...envelope, box: base64url(box)}), sealError('wrong-context'));
  await assert.rejects(joiner.openLink({...envelope, nonce: 'AAAAAAAAAAAAAAAA'}), sealError('wrong-context'));
  await assert.rejects(joiner.openLink({...envelope, key: 'AAAAAAAAAAA'}), sealError('wrong-key'));
  for (const plain of [link, {link}, null, undefined]) await assert.rejects(joiner.openLink(plain), sealError('not-sealed'));
});

test('only a link of http or https is sent', async () => {
  const [owner] = await agree();
  for (const invalid of ['', 'javascript:alert(1)', 'data:text/html,x', 'send.html#x', 'https://', `https://inbox.example/#${'x'.repeat(2048)}`, null, 7]) {
    await assert.rejects(owner.sealLink(/** @type {string} */ (invalid)), pairingError('invalid-link'), String(invalid).slice(0, 40));
  }
  for (const valid of ['http://192.0.2.7:3000/send.html#x', link]) await owner.sealLink(valid);
});

test('an attacker between both sides gets other digits on each', async () => {
  let equal = 0;
  for (let round = 0; round < 3; round++) {
    const [owner, joiner, toOwner, toJoiner] = await Promise.all([1, 2, 3, 4].map(() => KeyExchange.create(mailboxes)));
    const atOwner = await owner.acceptReveal(await toOwner.commitment, toOwner.publicKey);
    const atJoiner = await joiner.acceptKey(toJoiner.publicKey);
    const attacker = [await toOwner.acceptKey(owner.publicKey), await toJoiner.acceptReveal(await joiner.commitment, joiner.publicKey)];
    assert.deepEqual(attacker.map(({digits}) => digits), [atOwner.digits, atJoiner.digits]);
    if (atOwner.digits === atJoiner.digits) equal++;
  }
  assert.ok(equal < 3, 'a chance of 1 in 10,000 in each round');
});
