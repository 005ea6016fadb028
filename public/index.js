/** Inserts the address of this server into the curl example of the start page. */

for (const element of document.querySelectorAll('.origin')) {
  element.textContent = new URL('.', location.href).href.replace(/\/$/, '');
}
