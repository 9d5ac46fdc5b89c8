"""The CDK app: declares the stacks whose templates `provisioning` deploys.

Nothing else imports this package: importing `aws_cdk` starts Node.js, costs hundreds of megabytes and is safe
neither across threads nor across a fork. `provisioning/synthesizer.py` runs it in a child process; the image
of the service ships without it.
"""
