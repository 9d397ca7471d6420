"""The demo with its endpoint on the lab's Kubernetes. It lies beside the lab, because nothing outside of tests may use
that; the story itself is `deploy.demo.telling`."""
