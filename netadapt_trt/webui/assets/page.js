"use strict";
window.dash_clientside = Object.assign({}, window.dash_clientside, {
  netadapt: { height: (figure) => ({ height: `${(figure && figure.layout && figure.layout.height) || 380}px` }) },
});

// Uploads. A button with data-upload="tables|spaces" opens the file dialogue; the file goes to the HTTP interface as it is,
// and Dash is told what came of it. A file above data-limit bytes is refused here, before anything is sent.
(() => {
  const say = (text, bad) => {
    const box = document.getElementById("upload-message");
    if (!box) return;
    box.textContent = text;
    box.classList.toggle("bad", Boolean(bad));
  };

  const mib = (size) => `${(size / 1048576).toLocaleString("en", { maximumSignificantDigits: size < 1e9 ? 3 : 6 })} MiB`;

  const send = (kind, file) => {
    const request = new XMLHttpRequest();
    const query = new URLSearchParams({ name: file.name });
    request.open("POST", `/api/${kind}?${query}`);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.upload.onprogress = (event) => {
      if (event.lengthComputable) say(`${file.name}: ${Math.round((100 * event.loaded) / event.total)} % sent`);
    };
    request.onerror = () => say(`${file.name} could not be sent: the server hung up. Is it still running, and the file not too large?`, true);
    request.onload = () => {
      let answer = {};
      try {
        answer = JSON.parse(request.responseText);
      } catch {
        answer = { message: `the server answered ${request.status}` };
      }
      if (request.status !== 200) {
        say(answer.message, true);
        return;
      }
      say(`${answer.name}: ${answer.told}`);
      window.dash_clientside.set_props("uploaded", { data: { kind, name: answer.name } });
    };
    request.send(file);
  };

  document.addEventListener("click", (event) => {
    const button = event.target instanceof Element && event.target.closest("button[data-upload]");
    if (!button) return;
    const input = document.createElement("input");
    input.type = "file";
    input.addEventListener("change", () => {
      const file = input.files && input.files[0];
      if (!file) return;
      const limit = Number(button.dataset.limit);
      if (file.size > limit) {
        const [has, may] = [mib(file.size), mib(limit)];
        say(`${file.name} has ${has}, an upload may have ${may}; copy it into the workspace instead`, true);
        return;
      }
      say(`${file.name} is being sent`);
      send(button.dataset.upload, file);
    });
    input.click();
  });
})();
