/**
 * Access to a private server. An invitation is kept on this device, for all its pages. A guest
 * pass is a part of the link to a room, for that room alone.
 */

const KEY = 'inbox.invite';
/** The item of session storage with the tokens that the server has refused. */
const REFUSED = 'inbox.refused';
const INVITATION = /^invite_[a-z2-7]{32}$/i;

/** Returns the invitation of this device, '' if there is none. */
export function invitation() {
  try {
    return localStorage.getItem(KEY) ?? '';
  } catch {
    return ''; // storage is blocked
  }
}

/**
 * Keeps an invitation on this device, or removes it with ''. Reports whether that worked.
 * @param {string} token
 */
export function keepInvitation(token) {
  try {
    if (token) localStorage.setItem(KEY, token);
    else localStorage.removeItem(KEY);
    return true;
  } catch {
    return false;
  }
}

/** @param {string} token */
export function isInvitation(token) {
  return INVITATION.test(token);
}

/** Whether the end of an invitation is missing. @param {string} token */
export function isCutOff(token) {
  return /^[a-z0-9_]*$/i.test(token) && token.length < 'invite_'.length + 32;
}

/**
 * Returns the invitation in the fragment of a link, as far as it is one; undefined if the fragment is for
 * something else. What a messenger or a person adds around the invitation is left out.
 * @param {string} fragment
 */
export function invitationOf(fragment) {
  if (!/^#\W*invit/i.test(fragment)) return undefined;
  const [whole] = /invite_[a-z2-7]{32}(?![a-z0-9_])/i.exec(fragment) ?? [];
  return whole ?? fragment.replace(/^[^=]*=?/, '');
}

/**
 * Returns what this page sends to the server: the invitation of this device, or else the guest
 * pass of the link.
 * @param {{pass: string}} room
 */
export function tokenFor({pass}) {
  const own = invitation();
  return own && !(pass && wasRefused(own)) ? own : pass;
}

/** Whether the server has refused a token to this tab. @param {string} token */
export function wasRefused(token) {
  return refused().includes(token);
}

/** @param {string} token */
export function noteRefused(token) {
  try {
    sessionStorage.setItem(REFUSED, `${refused()} ${token}`);
    return true;
  } catch {
    return false;
  }
}

function refused() {
  try {
    return sessionStorage.getItem(REFUSED) ?? '';
  } catch {
    return '';
  }
}
