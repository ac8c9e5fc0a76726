// Takes the code of an invitation from behind the # of its link, which no server gets to see, and sends it.
"use strict";

const form = document.querySelector("form[data-invitation]");
const code = location.hash.slice(1);
if (form && /^[\w-]{20,200}$/.test(code)) {
  history.replaceState(null, "", location.pathname);
  form.elements.code.value = code;
  form.requestSubmit();
}
