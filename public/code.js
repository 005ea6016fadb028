/**
 * Short codes: a device shows a code of six characters, and a person enters it on
 * another device. code-owner.js and code-joiner.js connect the two devices.
 */

/** Digits and letters without 0, O, 1, I and L. */
const ALPHABET = '23456789ABCDEFGHJKMNPQRSTUVWXYZ';
const LENGTH = 6;

/** Returns a random code. All 31^6 codes are equally probable. */
export function newCode() {
  const limit = 256 - 256 % ALPHABET.length; // bytes from here on would favour some characters
  let code = '';
  while (code.length < LENGTH) {
    const [byte] = crypto.getRandomValues(new Uint8Array(1));
    if (byte < limit) code += ALPHABET[byte % ALPHABET.length];
  }
  return code;
}

/** Returns a code in threes, as it is shown. @param {string} code */
export function formatCode(code) {
  return `${code.slice(0, 3)} ${code.slice(3)}`;
}

/**
 * Returns the code that a person entered, or null if it is not a code. Case,
 * spaces and hyphens do not matter.
 * @param {string} text
 */
export function parseCode(text) {
  const code = text.normalize('NFKC').replace(/[\s\p{Pd}]/gu, '').toUpperCase();
  return code.length === LENGTH && [...code].every(character => ALPHABET.includes(character)) ? code : null;
}

/**
 * Returns the name of the mailbox that the device with a code reads.
 * @param {string} code
 */
export function codeMailbox(code) {
  return `code-${code}`;
}
