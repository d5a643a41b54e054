/* Requests to the server; where it asks for a token, the person types it and the browser gets a cookie. */
const form = byId("token-form");

const answerOf = async (path, options) => {
  const response = await fetch(path, options);
  if (response.status === 401) {
    await typedToken();
    return answerOf(path, options);
  }
  return response;
};

let typing = null;
const typedToken = () => {
  typing ??= new Promise((resolve) => {
    form.hidden = false;
    byId("token").focus();
    form.addEventListener("submit", async function send(event) {
      event.preventDefault();
      const problem = byId("token-problem");
      problem.textContent = "";
      try {
        const response = await fetch("/session", { method: "POST", body: byId("token").value });
        if (!response.ok) { problem.textContent = (await response.json()).error; return; }
      } catch { problem.textContent = "The server does not answer."; return; }
      form.removeEventListener("submit", send);
      form.hidden = true;
      byId("token").value = "";
      typing = null;
      resolve();
    });
  });
  return typing;
};

export { answerOf };
